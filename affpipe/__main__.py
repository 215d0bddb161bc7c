"""`python -m affpipe` is the command `affpipe`."""

from affpipe.cli.main import main

main()

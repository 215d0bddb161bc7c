"""`python -m affpipe` is the command `affpipe`."""

from affpipe.cli import main

main()

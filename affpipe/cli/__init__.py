"""The commands of `affpipe`, by what they are about. Heavy imports sit inside the commands, so that help and planning stay quick."""

"""The commands of `affpipe`, by subject. Heavy imports are inside the commands, so that help and planning stay quick."""

"""Checks before a long run: everything that can be known to go wrong, found within a minute and told at once, each with what to do."""

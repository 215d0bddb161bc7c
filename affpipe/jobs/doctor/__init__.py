"""Checks before a long run: every fault that can be found within a minute, reported at once, each with what to do."""

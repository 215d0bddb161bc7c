"""Checks of a fit, and of the outputs of networks and terms."""

"""Asymmetric loss of action units."""

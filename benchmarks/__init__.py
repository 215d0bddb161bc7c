"""Figures that the documentation states, each made by a command."""

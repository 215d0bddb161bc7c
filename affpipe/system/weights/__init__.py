"""Weights: what they are, where they come from, tiny random ones for trials."""

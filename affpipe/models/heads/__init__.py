"""Heads: temporal models on one stream. They know tensors only."""

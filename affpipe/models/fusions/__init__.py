"""Fusions: models on several streams. They know tensors only."""

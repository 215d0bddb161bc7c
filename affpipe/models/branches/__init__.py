"""Branches: layers over the time of one stream, from which heads and fusions are built. They know tensors only."""

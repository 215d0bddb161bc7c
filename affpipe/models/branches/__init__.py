"""Branches: layers over the time of one stream, of which heads and fusions are built. They know tensors only."""

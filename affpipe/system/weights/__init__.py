"""Weights: catalogue, download, conversion, records, safe reading."""

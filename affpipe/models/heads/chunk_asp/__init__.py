"""Chunk-wise attentive statistics pooling."""

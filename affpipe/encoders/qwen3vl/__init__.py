"""Qwen3-VL: embeddings of a person's behaviour in a segment."""

"""Qwen3-VL, embeddings of what a person does in a segment."""

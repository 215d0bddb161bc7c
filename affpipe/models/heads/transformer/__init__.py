"""The transformer head."""

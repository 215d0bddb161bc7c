"""The Mamba head."""

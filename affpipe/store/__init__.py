"""The store: streams on disk, written whole, read checked. Names and keys come from above."""

"""Data: which videos there are, whose face is meant, what annotations say; importers that collect this; the rendered demo."""

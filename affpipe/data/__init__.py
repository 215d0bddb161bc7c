"""Data: which videos there are, whose face is meant, what annotations say; importers that find it out; the rendered demo."""

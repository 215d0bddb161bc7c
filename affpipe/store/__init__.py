"""The store: streams on disk, written whole and checked as they are read. Names and keys come from the rooms above."""

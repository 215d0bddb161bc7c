"""Tasks: what a frame's label is, how outputs become one, how it is smoothed, pooled and measured."""

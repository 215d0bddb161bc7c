"""Tasks: what a frame's label is, how outputs become labels, and how labels are smoothed, pooled and measured."""

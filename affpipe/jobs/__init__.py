"""Jobs: the work that the workflow runs, its needs, and its state."""

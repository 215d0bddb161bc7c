"""Jobs: what the workflow runs, what it needs, and how it stands."""

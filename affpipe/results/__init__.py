"""Results: predictions become labels, files, scores, pages."""

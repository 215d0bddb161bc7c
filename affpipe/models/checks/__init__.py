"""What a fit, and what networks and terms give, must be."""

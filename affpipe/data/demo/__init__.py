"""The demo: sixteen rendered clips with annotations, laid out like Aff-Wild2, and tiny weights for all networks."""

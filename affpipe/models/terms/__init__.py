"""Terms: what a fit makes small. They know tensors only."""

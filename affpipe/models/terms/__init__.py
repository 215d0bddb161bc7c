"""Terms: parts of the loss that a fit minimises. They know tensors only."""

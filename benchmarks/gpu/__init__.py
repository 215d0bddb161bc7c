"""Networks of real size with random weights on a GPU: what is reached of what the machine can do."""

"""Models: streams become windows, windows predictions. Networks by their parts, how they are fitted and applied."""

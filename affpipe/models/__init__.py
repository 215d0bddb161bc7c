"""Models: streams become windows, windows become predictions. The room holds networks, and how they are fitted and applied."""

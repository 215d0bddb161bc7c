"""Pictures: decoded frames as a player shows them."""

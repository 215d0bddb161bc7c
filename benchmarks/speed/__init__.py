"""Each stage beside how published code does the same work, and beside what the machine could do at best."""

"""Which hardware each unit gets, and why a node gets none."""

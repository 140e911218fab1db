"""Which events there are, and what their arguments must be."""

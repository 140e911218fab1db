"""Which events exist, and what their arguments must be."""

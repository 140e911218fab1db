"""Where requests go, by their paths."""

"""How the content of a MESSAGE becomes an event: one dialect, one file."""

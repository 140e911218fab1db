"""How the content of a MESSAGE packet becomes an event: one dialect per file."""

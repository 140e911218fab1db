"""What processes share: who holds which session, and how nodes talk."""

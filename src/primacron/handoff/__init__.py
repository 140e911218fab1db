"""The handoff of a session from one node to another: its states, its snapshot, and the role of each side."""

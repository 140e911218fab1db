"""How a session goes from the node that has it to another one: its states, what travels, and the part of each side."""

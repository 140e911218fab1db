"""What happened so far, counted."""

from __future__ import annotations

from collections import Counter


class Metrics:
    """Counters by name, since the server was made."""

    __slots__ = ("counters", "messages_received")

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        # Apart from the others: counted for each message.
        self.messages_received = 0

    def count(self, name: str, by: int = 1) -> None:
        """Add to a counter."""
        self.counters[name] += by

    def __getitem__(self, name: str) -> int:
        return self.counters[name]

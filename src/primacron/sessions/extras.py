"""What few sessions have, so that the others need no place for it."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from primacron.entries import Name
from primacron.ids import NodeId
from primacron.receipts import Receipt
from primacron.sessions.calls import Calls

#: Seconds for which a key makes a send idempotent.
KEY_SECONDS: Final = 60.0
MAX_KEYS: Final = 1_024

#: A send to many: the node that made it, and its number there.
Serial = tuple[NodeId, int]


class Extras:
    """Calls, tasks, keys of sends, and what was sent to many while the session moved."""

    __slots__ = ("calls", "checked", "followers", "following", "keys", "listening", "recent", "relays", "tasks")

    def __init__(self) -> None:
        self.calls = Calls()
        #: Calls that were made on another node before the session moved, by number.
        self.relays: dict[int, NodeId] = {}
        self.tasks: set[asyncio.Task[Any]] = set()
        #: The receipts of sends with a key, and until when they are kept.
        self.keys: dict[str, tuple[Receipt, float]] = {}
        #: Who follows the session, and when each was last known to be there.
        self.followers: dict[Name, Any] = {}
        self.checked: dict[Name, float] = {}
        #: Whom the session follows.
        self.following: set[Name] = set()
        #: Those of them of whom it gets what they get as well.
        self.listening: set[Name] = set()
        #: What was sent to many and delivered around a move.
        self.recent: set[Serial] = set()

    def receipt_of(self, key: str, now: float) -> Receipt | None:
        """Return the receipt of an earlier send with this key."""
        found = self.keys.get(key)
        return found[0] if found is not None and found[1] > now else None

    def remember(self, key: str, receipt: Receipt, now: float) -> None:
        """Keep the receipt of a send."""
        keys = self.keys
        # In the order in which they came: those that are over stand first.
        while keys and (len(keys) >= MAX_KEYS or next(iter(keys.values()))[1] <= now):
            del keys[next(iter(keys))]
        keys[key] = receipt, now + KEY_SECONDS

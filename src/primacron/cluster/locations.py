"""Where sessions were last found, cached so that repeated sends need no lookup."""

from __future__ import annotations

from typing import Any, Final

from primacron.cluster.sends import encode_address
from primacron.entries import Entry, Name
from primacron.ids import NodeId

#: Seconds for which a location is trusted.
BELIEVED: Final = 10.0
MAX_PLACES: Final = 65_536


class Locations:
    """
    A cache of session entries that expire; times are on the event loop's clock.

    Each is stored with its encoded address, for :mod:`primacron.cluster.sends`. ``overtaken`` is how many seconds a
    send may still be in transit to a location that has been forgotten.
    """

    __slots__ = ("_left", "_overtaken", "_places", "_seconds")

    def __init__(self, seconds: float = BELIEVED, overtaken: float = 0.0) -> None:
        self._seconds = seconds
        self._overtaken = overtaken
        self._places: dict[Name, tuple[Entry, float, bytes]] = {}
        #: Locations that were forgotten, and until when a send may still be in transit there.
        self._left: dict[Name, tuple[Entry, float]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def get(self, name: Name, now: float) -> Entry | None:
        """Return the last known entry of a session, or None if it is unknown or expired."""
        found = self._places.get(name)
        if found is None:
            return None
        if found[1] <= now:
            self.drop(name)
            return None
        return found[0]

    def take_left(self, name: Name, now: float) -> Entry | None:
        """Return the location that was forgotten a moment ago, once: sends may still be in transit there."""
        self.get(name, now)
        entry, until = self._left.pop(name, (None, 0.0))
        return entry if until > now else None

    def address(self, name: Name, entry: Entry) -> bytes:
        """Return the encoded address of a session with this entry."""
        found = self._places.get(name)
        return found[2] if found is not None and found[0] is entry else encode_address(name, entry.generation)

    def put(self, name: Name, entry: Entry, now: float) -> None:
        """Store an entry, evicting the oldest ones if the cache is full."""
        _make_room(self._places)
        self._places.pop(name, None)
        self._places[name] = entry, now + self._seconds, encode_address(name, entry.generation)

    def drop(self, name: Name) -> None:
        """Forget the location of a session."""
        found = self._places.pop(name, None)
        if found is not None and self._overtaken:
            _make_room(self._left)
            self._left.pop(name, None)
            self._left[name] = found[0], found[1] + self._overtaken

    def drop_node(self, node: NodeId) -> None:
        """Forget all locations on a node that is gone or deaf."""
        self._places = {name: found for name, found in self._places.items() if found[0].node != node}
        self._left = {name: left for name, left in self._left.items() if left[0].node != node}


def _make_room(places: dict[Name, Any]) -> None:
    """Evict the oldest of too many: insertion order has them first."""
    if len(places) >= MAX_PLACES:
        for oldest in [*places][: MAX_PLACES // 8]:
            del places[oldest]

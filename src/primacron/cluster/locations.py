"""Where sessions were last found, cached so that repeated sends need no lookup."""

from __future__ import annotations

from typing import Final

from primacron.cluster.sends import encode_address
from primacron.entries import Entry, Name
from primacron.ids import NodeId

#: Seconds for which a location is trusted.
BELIEVED: Final = 10.0
MAX_PLACES: Final = 65_536


class Locations:
    """
    A cache of session entries that expire; times are on the event loop's clock.

    Each is stored with its encoded address, for :mod:`primacron.cluster.sends`.
    """

    __slots__ = ("_places", "_seconds")

    def __init__(self, seconds: float = BELIEVED) -> None:
        self._seconds = seconds
        self._places: dict[Name, tuple[Entry, float, bytes]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def get(self, name: Name, now: float) -> Entry | None:
        """Return the last known entry of a session, or None if it is unknown or expired."""
        found = self._places.get(name)
        if found is None:
            return None
        if found[1] <= now:
            del self._places[name]
            return None
        return found[0]

    def address(self, name: Name, entry: Entry) -> bytes:
        """Return the encoded address of a session with this entry."""
        found = self._places.get(name)
        return found[2] if found is not None and found[0] is entry else encode_address(name, entry.generation)

    def put(self, name: Name, entry: Entry, now: float) -> None:
        """Store an entry, evicting the oldest ones if the cache is full."""
        if len(self._places) >= MAX_PLACES:
            # Insertion order: the first ones are the oldest.
            for oldest in [*self._places][: MAX_PLACES // 8]:
                del self._places[oldest]
        self._places.pop(name, None)
        self._places[name] = entry, now + self._seconds, encode_address(name, entry.generation)

    def drop(self, name: Name) -> None:
        """Forget the location of a session."""
        self._places.pop(name, None)

    def drop_node(self, node: NodeId) -> None:
        """Forget all locations on a node that is gone or deaf."""
        self._places = {name: found for name, found in self._places.items() if found[0].node != node}

"""Items that are too large for one envelope: their parts, joined again within limits."""

from __future__ import annotations

from typing import Final, TypeAlias

from primacron.cluster.wire import Part

#: Items that may come in parts at the same time from one node: one for each of its queues.
MAX_PARTIALS: Final = 2
#: Bytes of one item that comes in parts, and of all whose last part has not come.
MAX_ITEM: Final = 67_108_864
MAX_OPEN: Final = 4 * MAX_ITEM


class Partial:
    """An item of which the first parts have come."""

    __slots__ = ("data", "next", "serial", "total", "track")

    def __init__(self, track: Track, serial: int, total: int) -> None:
        self.track = track
        self.serial = serial
        self.total = total
        self.next = 0
        self.data = bytearray()


#: What has come in parts of one stream of envelopes, by serial.
Track: TypeAlias = dict[int, Partial]


class Parts:
    """
    All items whose last part has not come.

    One item has at most ``max_item`` bytes; past ``max_open`` bytes of all, those
    that began first are given up.
    """

    def __init__(self, max_item: int = MAX_ITEM, max_open: int = MAX_OPEN) -> None:
        self._max_item = max_item
        self._max_open = max_open
        self._open: dict[Partial, None] = {}
        #: Bytes of them.
        self.size = 0

    def join(self, track: Track, part: Part) -> bytes | None:
        """
        Add a part; return the item when it is whole.

        Raises:
            ValueError: if parts are missing, or the item becomes too large.

        """
        partial = track.get(part.serial)
        if partial is None and part.index == 0:
            partial = self._begin(track, part)
        if partial is None or not self._continues(partial, part):
            if partial is not None:
                self._drop(partial)
            raise ValueError("a part that does not follow the one before")
        partial.data += part.data
        partial.next += 1
        self.size += len(part.data)
        if partial.next == partial.total:
            self._drop(partial)
            return bytes(partial.data)
        while self.size > self._max_open:
            self._drop(next(iter(self._open)))
        return None

    def clear(self, track: Track) -> None:
        """Give up what has come of one stream."""
        for partial in [*track.values()]:
            self._drop(partial)

    def _begin(self, track: Track, part: Part) -> Partial:
        if len(track) >= MAX_PARTIALS:
            self._drop(next(iter(track.values())))
        partial = track[part.serial] = Partial(track, part.serial, part.total)
        self._open[partial] = None
        return partial

    def _continues(self, partial: Partial, part: Part) -> bool:
        is_next = part.index == partial.next and part.index < part.total == partial.total
        return is_next and len(partial.data) + len(part.data) <= self._max_item

    def _drop(self, partial: Partial) -> None:
        del partial.track[partial.serial]
        del self._open[partial]
        self.size -= len(partial.data)

"""Reassembly of items that were too large for one envelope, within limits."""

from __future__ import annotations

from typing import Final, TypeAlias

from primacron.cluster.wire import Part

#: Items that one node may have partially sent at a time: one for each of its queues.
MAX_PARTIALS: Final = 2
#: Bytes of one fragmented item, and of all incomplete items together.
MAX_ITEM: Final = 67_108_864
MAX_OPEN: Final = 4 * MAX_ITEM


class Partial:
    """An item of which only the first fragments have arrived."""

    __slots__ = ("data", "next", "serial", "total", "track")

    def __init__(self, track: Track, serial: int, total: int) -> None:
        self.track = track
        self.serial = serial
        self.total = total
        self.next = 0
        self.data = bytearray()


#: The incomplete items of one stream of envelopes, by serial.
Track: TypeAlias = dict[int, Partial]


class Parts:
    """
    All items that are still incomplete.

    One item may take up to ``max_item`` bytes; past ``max_open`` bytes in total, the
    oldest ones are discarded.
    """

    def __init__(self, max_item: int = MAX_ITEM, max_open: int = MAX_OPEN) -> None:
        self._max_item = max_item
        self._max_open = max_open
        self._open: dict[Partial, None] = {}
        #: Total bytes buffered.
        self.size = 0

    def join(self, track: Track, part: Part) -> bytes | None:
        """
        Add a fragment; return the item once it is complete.

        Raises:
            ValueError: if a fragment is missing, or the item exceeds the limit.

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
        """Discard the incomplete items of one stream."""
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

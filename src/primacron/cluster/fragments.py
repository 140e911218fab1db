"""Reassembly of items that were too large for one envelope, within limits."""

from __future__ import annotations

from typing import Final, TypeAlias

from primacron.cluster.items import Fragment

#: Items that one node may have partially sent at a time: one for each of its queues.
MAX_PARTIALS: Final = 2
#: Bytes of one fragmented item, and of all incomplete items together.
MAX_ITEM: Final = 67_108_864
MAX_OPEN: Final = 4 * MAX_ITEM


class PartialItem:
    """An item of which only the first fragments have arrived."""

    __slots__ = ("data", "next", "serial", "total", "track")

    def __init__(self, track: Track, serial: int, total: int) -> None:
        self.track = track
        self.serial = serial
        self.total = total
        self.next = 0
        self.data = bytearray()


#: The incomplete items of one stream of envelopes, by serial.
Track: TypeAlias = dict[int, PartialItem]


class Reassembly:
    """
    All items that are still incomplete.

    One item may take up to ``max_item`` bytes; past ``max_open`` bytes in total, the
    oldest ones are discarded.
    """

    def __init__(self, max_item: int = MAX_ITEM, max_open: int = MAX_OPEN) -> None:
        self._max_item = max_item
        self._max_open = max_open
        self._open: dict[PartialItem, None] = {}
        #: Total bytes buffered.
        self.size = 0

    def join(self, track: Track, fragment: Fragment) -> bytes | None:
        """
        Add a fragment; return the item once it is complete.

        Raises:
            ValueError: if a fragment is missing, or the item exceeds the limit.

        """
        partial = track.get(fragment.serial)
        if partial is None and fragment.index == 0:
            partial = self._begin(track, fragment)
        if partial is None or not self._continues(partial, fragment):
            if partial is not None:
                self._drop(partial)
            raise ValueError("a fragment that does not follow the one before")
        partial.data += fragment.data
        partial.next += 1
        self.size += len(fragment.data)
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

    def _begin(self, track: Track, fragment: Fragment) -> PartialItem:
        if len(track) >= MAX_PARTIALS:
            self._drop(next(iter(track.values())))
        partial = track[fragment.serial] = PartialItem(track, fragment.serial, fragment.total)
        self._open[partial] = None
        return partial

    def _continues(self, partial: PartialItem, fragment: Fragment) -> bool:
        is_next = fragment.index == partial.next and fragment.index < fragment.total == partial.total
        return is_next and len(partial.data) + len(fragment.data) <= self._max_item

    def _drop(self, partial: PartialItem) -> None:
        del partial.track[partial.serial]
        del self._open[partial]
        self.size -= len(partial.data)

"""
Items sent by topic: to the nodes that have subscribed to it, batched per tick.

The messages are envelopes, as on the bus. A message that is none belongs to the list of
the same name, which publishes on the topic itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from primacron.cluster.envelope import (
    HEAD_SIZE,
    MAX_ENVELOPE,
    MAX_ITEMS,
    Unsupported,
    decode_envelope,
    decode_item,
    encode_envelope,
    encode_item,
)
from primacron.cluster.fragments import Reassembly, Track
from primacron.cluster.items import Fragment, Item
from primacron.cluster.kept import Published, unpack_published
from primacron.cluster.outgoing import Dispatch, Fate
from primacron.cluster.topics import Topics
from primacron.ids import NodeId
from primacron.metrics import Metrics

#: Senders of fragments that are tracked per process.
MAX_TRACKS = 1_024


class OutgoingByTopic:
    """
    What this node sends by topic.

    At most ``max_unanswered`` bytes are published whose receipt the backend has not
    confirmed; what exceeds that is reported as unsent.
    """

    def __init__(self, node: NodeId, topics: Topics, loop: asyncio.AbstractEventLoop, *, max_unanswered: int) -> None:
        self._node = node
        self._topics = topics
        self._loop = loop
        self._max_unanswered = max_unanswered
        self._fresh: dict[str, list[Dispatch]] = {}
        self._unanswered = 0
        self._serial = 0
        #: Whether anything can be sent at the moment.
        self.open = False

    def send(self, topic: str, dispatch: Dispatch) -> None:
        """Send an item at the end of this tick."""
        if not self._fresh:
            self._loop.call_soon(self.flush)
        self._fresh.setdefault(topic, []).append(dispatch)

    def flush(self) -> None:
        """Encode and publish what this tick has collected."""
        fresh, self._fresh = self._fresh, {}
        for topic, dispatches in fresh.items():
            batch: list[tuple[bytes, Dispatch | None]] = []
            for dispatch in dispatches:
                batch += self._pack(dispatch)
            for chunk in _envelopes(batch):
                self._publish(topic, chunk)

    def _pack(self, dispatch: Dispatch) -> list[tuple[bytes, Dispatch | None]]:
        """Return an item, in fragments if it is too large for one envelope; only the last carries the dispatch."""
        data = dispatch.encode()
        if not self.open or self._unanswered + len(data) > self._max_unanswered:
            dispatch.left(Fate.UNSENT, 0)
            return []
        self._unanswered += len(data)
        if len(data) <= MAX_ENVELOPE - HEAD_SIZE:
            return [(data, dispatch)]
        self._serial += 1
        step = MAX_ENVELOPE - 2 * HEAD_SIZE
        total = -(-len(data) // step)
        self._unanswered -= len(data)
        parts = [
            encode_item(Fragment(self._serial, index, total, data[index * step : (index + 1) * step]))
            for index in range(total)
        ]
        self._unanswered += sum(map(len, parts))
        return [(part, dispatch if part is parts[-1] else None) for part in parts]

    def _publish(self, topic: str, batch: list[tuple[bytes, Dispatch | None]]) -> None:
        items = [data for data, _ in batch]
        body = encode_envelope(self._node, 0, 0, 0, items)
        published = self._topics.publish(topic, body)
        published.add_done_callback(partial(self._published, sum(map(len, items)), batch))

    def _published(self, size: int, batch: list[tuple[bytes, Dispatch | None]], published: asyncio.Future[int]) -> None:
        self._unanswered -= size
        is_unsure = published.cancelled() or published.exception() is not None
        for _, dispatch in batch:
            if dispatch is not None:
                dispatch.left(Fate.UNSURE if is_unsure else Fate.SENT, 0 if is_unsure else published.result())


def _envelopes(batch: list[tuple[bytes, Dispatch | None]]) -> list[list[tuple[bytes, Dispatch | None]]]:
    """Split items into envelopes within the limits."""
    chunks: list[list[tuple[bytes, Dispatch | None]]] = []
    size = MAX_ENVELOPE
    for packed in batch:
        length = len(packed[0])
        if size + length > MAX_ENVELOPE - HEAD_SIZE or len(chunks[-1]) >= MAX_ITEMS:
            chunks.append([])
            size = 0
        chunks[-1].append(packed)
        size += length
    return chunks


class IncomingByTopic:
    """
    What arrives by topic.

    ``take`` is called with each item and the node that sent it, ``published`` with the topic
    and what its list has published.
    """

    def __init__(
        self,
        node: NodeId,
        metrics: Metrics,
        take: Callable[[Item | Unsupported, NodeId], None],
        published: Callable[[str, Published], None],
    ) -> None:
        self._node = node
        self._metrics = metrics
        self._take = take
        self._published = published
        self._fragments = Reassembly()
        #: The incomplete items of each sender on each topic.
        self._tracks: dict[tuple[str, NodeId], Track] = {}

    def hear(self, topic: str, body: bytes) -> None:
        """Handle a message."""
        try:
            if body[:1] < b"\x80":
                self._published(topic, unpack_published(body))
                return
            envelope = decode_envelope(body)
        except ValueError:
            self._metrics.count("bus_envelopes_unreadable")
            return
        if envelope.node != self._node:
            for raw in envelope.items:
                self._read(topic, envelope.node, raw)

    def _read(self, topic: str, sender: NodeId, raw: bytes) -> None:
        try:
            item = decode_item(raw)
            if isinstance(item, Fragment):
                whole = self._join(topic, sender, item)
                if whole is None:
                    return
                item = decode_item(whole)
        except ValueError:
            self._metrics.count("bus_items_unreadable")
            return
        if not isinstance(item, Fragment):
            self._take(item, sender)

    def _join(self, topic: str, sender: NodeId, fragment: Fragment) -> bytes | None:
        """Add a fragment; return the item once it is complete."""
        key = (topic, sender)
        track = self._tracks.get(key)
        if track is None:
            if len(self._tracks) >= MAX_TRACKS:
                self._fragments.clear(self._tracks.pop(next(iter(self._tracks))))
            track = self._tracks[key] = {}
        try:
            return self._fragments.join(track, fragment)
        finally:
            if not track:
                self._tracks.pop(key, None)

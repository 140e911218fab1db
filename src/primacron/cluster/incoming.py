"""What comes over the bus: envelopes are read, gaps seen, parts joined; what is malformed is counted and dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from primacron.cluster.envelope import Envelope, Unsupported, decode_envelope, decode_item
from primacron.cluster.wire import CONFIRM, TO_ALL, Confirm, Item, Part, Probe
from primacron.ids import NodeId
from primacron.metrics import Metrics

#: Items that may come in parts at the same time from one node: one for each of its queues.
MAX_PARTIALS: Final = 2
#: Nodes that are told apart, twice: what they send here, and to all.
MAX_STREAMS: Final = 16_384
#: Bytes of one item that comes in parts.
MAX_ITEM: Final = 67_108_864


class _Partial:
    """An item of which the first parts have come."""

    __slots__ = ("data", "next", "total")

    def __init__(self, total: int) -> None:
        self.total = total
        self.next = 0
        self.data = bytearray()


class _Stream:
    """What came last of one node, to this node or to all."""

    __slots__ = ("epoch", "number", "partials")

    def __init__(self) -> None:
        self.epoch = 0
        self.number = 0
        self.partials: dict[int, _Partial] = {}


class Incoming:
    """
    All that this node hears.

    ``take`` is called with each item and the node that sent it, ``confirm`` with
    what is to be said to a node.
    """

    def __init__(
        self,
        node: NodeId,
        loop: asyncio.AbstractEventLoop,
        metrics: Metrics,
        take: Callable[[Item | Unsupported, NodeId], None],
        confirm: Callable[[NodeId, Confirm], None],
    ) -> None:
        self._node = node
        self._loop = loop
        self._metrics = metrics
        self._take = take
        self._confirm = confirm
        self._streams: dict[tuple[NodeId, bool], _Stream] = {}
        #: When something was last heard, on the clock of the event loop.
        self.heard_at = loop.time()

    def hear(self, body: bytes) -> None:
        """Take what came over the bus."""
        self.heard_at = self._loop.time()
        try:
            envelope = decode_envelope(body)
        except ValueError:
            self._metrics.count("bus_envelopes_unreadable")
            return
        if envelope.node == self._node:
            return
        to_all = bool(envelope.flags & TO_ALL)
        stream = self._stream((envelope.node, to_all))
        if not self._follows(stream, envelope):
            return
        for raw in envelope.items:
            self._read(stream, raw, envelope.node)
        if envelope.flags & CONFIRM:
            self._confirm(envelope.node, Confirm(envelope.epoch, envelope.number, to_all))

    def forget(self, node: NodeId) -> None:
        """Forget a node that is gone."""
        for to_all in (False, True):
            self._streams.pop((node, to_all), None)

    def _stream(self, key: tuple[NodeId, bool]) -> _Stream:
        stream = self._streams.get(key)
        if stream is None:
            if len(self._streams) >= MAX_STREAMS:
                del self._streams[next(iter(self._streams))]
            stream = self._streams[key] = _Stream()
        return stream

    def _follows(self, stream: _Stream, envelope: Envelope) -> bool:
        """Take note of the number; False for one that came before."""
        if envelope.epoch == stream.epoch:
            if envelope.number <= stream.number:
                self._metrics.count("bus_envelopes_repeated")
                return False
            missing = envelope.number - stream.number - 1
        elif envelope.epoch < stream.epoch:
            self._metrics.count("bus_envelopes_repeated")
            return False
        else:
            # An epoch that is heard for the first time may have begun before this node listened.
            missing = 0
            stream.epoch = envelope.epoch
            stream.partials.clear()
        stream.number = envelope.number
        if missing:
            self._metrics.count("bus_envelopes_missed", missing)
            stream.partials.clear()
        return True

    def _read(self, stream: _Stream, raw: msgspec.Raw, sender: NodeId) -> None:
        try:
            item = decode_item(raw)
            if isinstance(item, Part):
                whole = _join(stream, item)
                if whole is None:
                    return
                item = decode_item(whole)
        except ValueError:
            self._metrics.count("bus_items_unreadable")
            return
        if not isinstance(item, Probe | Part):
            self._take(item, sender)


def _join(stream: _Stream, part: Part) -> bytes | None:
    """
    Add a part; return the item when it is whole.

    Raises:
        ValueError: if parts are missing, or the item becomes too large.

    """
    partial = stream.partials.get(part.serial)
    if partial is None:
        if len(stream.partials) >= MAX_PARTIALS:
            del stream.partials[next(iter(stream.partials))]
        partial = stream.partials[part.serial] = _Partial(part.total)
    is_next = part.index == partial.next and part.index < part.total == partial.total
    if not is_next or len(partial.data) + len(part.data) > MAX_ITEM:
        del stream.partials[part.serial]
        raise ValueError("a part that does not follow the one before")
    partial.data += part.data
    partial.next += 1
    if partial.next < partial.total:
        return None
    del stream.partials[part.serial]
    return bytes(partial.data)

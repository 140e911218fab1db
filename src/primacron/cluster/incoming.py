"""What comes over the bus: envelopes are read, gaps seen, parts joined; what is malformed is counted and dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from primacron.cluster.envelope import Envelope, Unsupported, decode_envelope, decode_item
from primacron.cluster.parts import Parts, Track
from primacron.cluster.wire import CONFIRM, TO_ALL, Confirm, Item, Part, Probe
from primacron.ids import NodeId
from primacron.metrics import Metrics

#: Nodes that are told apart, twice: what they send here, and to all.
MAX_STREAMS: Final = 16_384


class _Stream:
    """What came last of one node, to this node or to all."""

    __slots__ = ("epoch", "number", "track")

    def __init__(self) -> None:
        self.epoch = 0
        self.number = 0
        self.track: Track = {}


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
        self._parts = Parts()
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
        for key in ((node, False), (node, True)):
            if key in self._streams:
                self._forget(key)

    def _forget(self, key: tuple[NodeId, bool]) -> None:
        self._parts.clear(self._streams.pop(key).track)

    def _stream(self, key: tuple[NodeId, bool]) -> _Stream:
        stream = self._streams.get(key)
        if stream is None:
            if len(self._streams) >= MAX_STREAMS:
                self._forget(next(iter(self._streams)))
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
            self._parts.clear(stream.track)
        stream.number = envelope.number
        if missing:
            self._metrics.count("bus_envelopes_missed", missing)
            self._parts.clear(stream.track)
        return True

    def _read(self, stream: _Stream, raw: msgspec.Raw, sender: NodeId) -> None:
        try:
            item = decode_item(raw)
            if isinstance(item, Part):
                whole = self._parts.join(stream.track, item)
                if whole is None:
                    return
                item = _decode_whole(whole)
        except ValueError:
            self._metrics.count("bus_items_unreadable")
            return
        if type(item) is not Probe:
            self._take(item, sender)


def _decode_whole(whole: bytes) -> Item | Unsupported:
    """Read an item that came in parts; see :func:`decode_item`."""
    item = decode_item(whole)
    if isinstance(item, Part):
        raise ValueError("a part of a part")
    return item

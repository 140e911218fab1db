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

    __slots__ = ("epoch", "heard_at", "number", "track")

    def __init__(self) -> None:
        self.epoch = 0
        self.number = 0
        #: When the last envelope came that was taken, on the clock of the event loop.
        self.heard_at = 0.0
        self.track: Track = {}


class Incoming:
    """
    All that this node hears.

    ``take`` is called with each item and the node that sent it, ``confirm`` with
    what is to be said to a node. ``patience`` is for how many seconds an envelope
    that is ahead of a node's others is believed without another one behind it.
    """

    def __init__(
        self,
        node: NodeId,
        loop: asyncio.AbstractEventLoop,
        metrics: Metrics,
        take: Callable[[Item | Unsupported, NodeId], None],
        confirm: Callable[[NodeId, Confirm], None],
        patience: float,
    ) -> None:
        self._node = node
        self._loop = loop
        self._metrics = metrics
        self._take = take
        self._confirm = confirm
        self._patience = patience
        self._streams: dict[tuple[NodeId, bool], _Stream] = {}
        #: Streams of which something was refused, and until when more of them would be.
        self._refusing: dict[tuple[NodeId, bool], float] = {}
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
        key = (envelope.node, to_all)
        stream = self._stream(key)
        if not self._follows(stream, envelope):
            self._metrics.count("bus_envelopes_repeated")
            self._refusing[key] = stream.heard_at + self._patience
            return
        stream.heard_at = self.heard_at
        for raw in envelope.items:
            self._read(stream, raw, envelope.node)
        if envelope.flags & CONFIRM:
            self._confirm(envelope.node, Confirm(envelope.epoch, envelope.number, to_all))

    def refused(self) -> list[NodeId]:
        """Return the nodes of which nothing is taken for the moment, as something was ahead of all that they send."""
        self._refusing = {key: until for key, until in self._refusing.items() if until > self._loop.time()}
        return sorted({node for node, _ in self._refusing})

    def forget(self, node: NodeId) -> None:
        """Forget a node that is gone."""
        for key in ((node, False), (node, True)):
            if key in self._streams:
                self._forget(key)

    def _forget(self, key: tuple[NodeId, bool]) -> None:
        self._parts.clear(self._streams.pop(key).track)
        self._refusing.pop(key, None)

    def _stream(self, key: tuple[NodeId, bool]) -> _Stream:
        stream = self._streams.get(key)
        if stream is None:
            if len(self._streams) >= MAX_STREAMS:
                self._forget(next(iter(self._streams)))
            stream = self._streams[key] = _Stream()
        return stream

    def _follows(self, stream: _Stream, envelope: Envelope) -> bool:
        """
        Take note of the number; False for an envelope that is behind another one.

        The bus keeps the order of one sender, so it has come before; or what was
        ahead of it was not of its node. Then nothing more comes there, while the
        node goes on here: after a while it is believed again.
        """
        if (envelope.epoch, envelope.number) <= (stream.epoch, stream.number):
            if self._loop.time() - stream.heard_at < self._patience:
                return False
            self._metrics.count("bus_streams_resumed")
            missing = 0
        else:
            # An epoch that is heard for the first time may have begun before this node listened.
            missing = envelope.number - stream.number - 1 if envelope.epoch == stream.epoch else 0
        if missing:
            self._metrics.count("bus_envelopes_missed", missing)
        if (stream.epoch, stream.number + 1) != (envelope.epoch, envelope.number):
            self._parts.clear(stream.track)
        stream.epoch, stream.number = envelope.epoch, envelope.number
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

"""Receives from the bus: decodes envelopes, detects gaps, reassembles items, drops and counts what is malformed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from primacron.cluster.envelope import Envelope, Unsupported, decode_envelope, decode_item
from primacron.cluster.fragments import Reassembly, Track
from primacron.cluster.items import CONFIRM, TO_ALL, Confirm, Fragment, Item, Probe
from primacron.ids import NodeId
from primacron.metrics import Metrics

#: Streams that are tracked; each node has two: to this node, and to all.
MAX_STREAMS: Final = 16_384


class _Stream:
    """The state of what one node sends, to this node or to all."""

    __slots__ = ("epoch", "heard_at", "number", "track")

    def __init__(self) -> None:
        self.epoch = 0
        self.number = 0
        #: When the last accepted envelope arrived, on the event loop's clock.
        self.heard_at = 0.0
        self.track: Track = {}


class Incoming:
    """
    Everything that this node receives.

    ``take`` is called with each item and the node that sent it, ``confirm`` with the
    confirmation to return to a node. ``patience`` is for how many seconds an envelope
    that is ahead of a node's others is believed when nothing follows it.
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
        #: Streams that are being refused, and until when.
        self._refusing: dict[tuple[NodeId, bool], float] = {}
        self._fragments = Reassembly()
        #: When anything was last received, on the event loop's clock.
        self.heard_at = loop.time()

    def hear(self, body: bytes) -> None:
        """Handle a message from the bus."""
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
        """Return the nodes whose envelopes are being refused because something got ahead of everything they send."""
        self._refusing = {key: until for key, until in self._refusing.items() if until > self._loop.time()}
        return sorted({node for node, _ in self._refusing})

    def forget(self, node: NodeId) -> None:
        """Drop the streams of a node that is gone."""
        for key in ((node, False), (node, True)):
            if key in self._streams:
                self._forget(key)

    def _forget(self, key: tuple[NodeId, bool]) -> None:
        self._fragments.clear(self._streams.pop(key).track)
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
        Record the number; return False for an envelope that is behind one already received.

        The bus keeps a sender's order, so such an envelope is a repetition, unless the
        one ahead of it was forged. In that case nothing more arrives at the forged
        number while the real node carries on below it: after a while it is believed again.
        """
        if (envelope.epoch, envelope.number) <= (stream.epoch, stream.number):
            if self._loop.time() - stream.heard_at < self._patience:
                return False
            self._metrics.count("bus_streams_resumed")
            missing = 0
        else:
            # The beginning of a new epoch may predate this node's subscription.
            missing = envelope.number - stream.number - 1 if envelope.epoch == stream.epoch else 0
        if missing:
            self._metrics.count("bus_envelopes_missed", missing)
        if (stream.epoch, stream.number + 1) != (envelope.epoch, envelope.number):
            self._fragments.clear(stream.track)
        stream.epoch, stream.number = envelope.epoch, envelope.number
        return True

    def _read(self, stream: _Stream, raw: msgspec.Raw, sender: NodeId) -> None:
        try:
            item = decode_item(raw)
            if isinstance(item, Fragment):
                whole = self._fragments.join(stream.track, item)
                if whole is None:
                    return
                item = _decode_whole(whole)
        except ValueError:
            self._metrics.count("bus_items_unreadable")
            return
        if type(item) is not Probe:
            self._take(item, sender)


def _decode_whole(whole: bytes) -> Item | Unsupported:
    """
    Decode a reassembled item.

    Raises:
        ValueError: if it is malformed, or a fragment itself.

    """
    item = decode_item(whole)
    if isinstance(item, Fragment):
        raise ValueError("a fragment of a fragment")
    return item

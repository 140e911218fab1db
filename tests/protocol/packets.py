"""Packets of all kinds, for tests of the codecs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TypeVar

from hypothesis import strategies as st

from primacron.errors import ProtocolError
from primacron.protocol.outgoing import OutgoingPacket
from primacron.protocol.packets import Packet, PacketType

T = TypeVar("T")

# What comes in was decoded from UTF-8, so there are no lone surrogates in it.
texts = st.text(st.characters(codec="utf-8"))
joinable_texts = st.text(st.characters(codec="utf-8", exclude_characters="\x1e"))
versions = st.sampled_from([4, 3])


def packets_of(content: st.SearchStrategy[str]) -> st.SearchStrategy[OutgoingPacket]:
    """Return outgoing packets with this text, and binary messages."""
    typed = st.builds(
        lambda kind, text: OutgoingPacket(kind.value.encode(), text.encode()),
        st.sampled_from(list(PacketType)),
        content,
    )
    return typed | st.binary().map(OutgoingPacket.message)


def packet_of(packet: OutgoingPacket) -> Packet:
    """Return what the other side makes of a packet."""
    if packet.binary:
        return Packet(PacketType.MESSAGE, packet.data)
    return Packet(PacketType(packet.prefix.decode()), packet.data.decode())


def decoded(decode: Callable[..., T], *args: object, **options: object) -> T | None:
    """Return what a decoder makes of its input, or None where it refuses; any other error fails the test."""
    with contextlib.suppress(ProtocolError):
        return decode(*args, **options)
    return None

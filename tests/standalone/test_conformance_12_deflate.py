"""Sections 12 and 13: compressed messages of many kinds and sizes, under each agreement."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable

import pytest

from tests.standalone.cases import Codec
from tests.standalone.deflating import DeflatingPeer
from tests.standalone.peer import Peer, close
from tests.support.websocket import BINARY, CLOSE, TEXT, Frame

#: Bytes of each message, and of each of its fragments.
SIZES = (
    *((size, 0) for size in (16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072)),
    *((8192, 256), (16384, 512), (32768, 1024), (65536, 2048), (131072, 4096)),
    *((65536, 256), (65536, 1024), (131072, 256)),
)
#: Bytes of all messages of a case, and the most messages.
VOLUME, MOST = 400_000, 200

ACCEPTS = "permessage-deflate; client_no_context_takeover; client_max_window_bits"
FORGETS = "server_no_context_takeover"
OFFERS = {
    "13.1": ACCEPTS,
    "13.2": f"{ACCEPTS}; {FORGETS}",
    "13.3": f"{ACCEPTS}; server_max_window_bits=9",
    "13.4": f"{ACCEPTS}; server_max_window_bits=15",
    "13.5": f"{ACCEPTS}; {FORGETS}; server_max_window_bits=9",
    "13.6": f"{ACCEPTS}; {FORGETS}; server_max_window_bits=15",
    "13.7": f"{ACCEPTS}; {FORGETS}; server_max_window_bits=9, {ACCEPTS}; {FORGETS}, {ACCEPTS}",
}
WORDS = ("Geist", "Größe", "Fluß", "stets", "verneint", "und", "das", "mit", "Recht", "alles", "geht", "zugrunde")


def _speech(size: int, source: random.Random) -> bytes:
    words = " ".join(source.choices(WORDS, k=size // 3 + 1)).encode()
    return words[:size].decode("utf-8", "ignore").encode().ljust(size, b".")


def _records(size: int, source: random.Random) -> bytes:
    records = [{"id": source.randrange(1 << 30), "name": source.choice(WORDS)} for _ in range(size // 20 + 1)]
    return json.dumps(records).encode()[:size]


def _page(size: int, source: random.Random) -> bytes:
    parts = (
        f'<li class="{source.choice(WORDS)}"><a href="/{source.random()}">→</a></li>' for _ in range(size // 30 + 1)
    )
    return "\n".join(parts).encode()[:size].decode("utf-8", "ignore").encode().ljust(size, b" ")


def _noise(size: int, source: random.Random) -> bytes:
    return source.randbytes(size)


KINDS = {
    "12.1": (TEXT, _records),
    "12.2": (BINARY, _noise),
    "12.3": (TEXT, _speech),
    "12.4": (TEXT, _page),
    "12.5": (BINARY, _speech),
}


def _numbered(sections: Iterable[str]) -> list[object]:
    return [
        pytest.param(section, size, fragment, id=f"{section}.{n}")
        for section in sections
        for n, (size, fragment) in enumerate(SIZES, 1)
    ]


def _exchange(peer: DeflatingPeer, opcode: int, payloads: list[bytes], fragment: int) -> None:
    for payload in payloads:
        peer.send(opcode, payload, fragment)
        assert peer.receive() == Frame(opcode, payload)
    peer.peer.send(close())
    assert [frame.opcode for frame in peer.peer.receive_until_close()] == [CLOSE]


def _count(size: int) -> int:
    return min(MOST, max(4, VOLUME // size))


@pytest.mark.parametrize(("section", "size", "fragment"), _numbered(KINDS))
def test_compressed_messages_of_each_kind_come_back(section: str, size: int, fragment: int, codec: Codec) -> None:
    opcode, make = KINDS[section]
    source = random.Random(f"{section} {size} {fragment}")
    with Peer.open(codec.port, extensions="permessage-deflate; client_max_window_bits") as peer:
        payloads = [make(size, source) for _ in range(_count(size))]
        _exchange(DeflatingPeer(peer), opcode, payloads, fragment)


@pytest.mark.parametrize(("section", "size", "fragment"), _numbered(OFFERS))
def test_compressed_messages_come_back_under_each_agreement(
    section: str, size: int, fragment: int, codec: Codec
) -> None:
    source = random.Random(f"{section} {size} {fragment}")
    with Peer.open(codec.port, extensions=OFFERS[section]) as peer:
        deflating = DeflatingPeer(peer)
        assert ("server_no_context_takeover" in deflating.agreed) == (FORGETS in OFFERS[section])
        asked = re.search(r"server_max_window_bits=(\d+)", OFFERS[section].partition(",")[0])
        assert deflating.agreed.get("server_max_window_bits") == (asked[1] if asked else None)
        payloads = [_records(size, source) for _ in range(_count(size))]
        _exchange(deflating, TEXT, payloads, fragment)

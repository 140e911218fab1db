"""Section 2: pings and pongs."""

from __future__ import annotations

from tests.standalone.cases import Case, Codec, closed, in_every_way, ponged, run
from tests.standalone.peer import ping, pong

OCTETS = bytes(range(0x82, 0xFF)).ljust(125, b"\x00")

CASES = [
    Case("2.1", [ping()], [ponged()]),
    Case("2.2", [ping(b"Hello, world!")], [ponged(b"Hello, world!")]),
    Case("2.3", [ping(b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff")], [ponged(b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff")]),
    Case("2.4", [ping(OCTETS)], [ponged(OCTETS)]),
    Case("2.5", [ping(b"\xfe" * 126)], [closed(1002)]),
    Case("2.6", [bytes([octet]) for octet in ping(OCTETS)], [ponged(OCTETS)]),
    Case("2.7", [pong()], []),
    Case("2.8", [pong(b"unsolicited pong payload")], []),
    Case("2.9", [pong(b"unsolicited pong payload"), ping(b"ping payload")], [ponged(b"ping payload")]),
    Case("2.10", [ping(b"payload-%d" % n) for n in range(10)], [ponged(b"payload-%d" % n) for n in range(10)]),
    Case(
        "2.11",
        [bytes([octet]) for n in range(10) for octet in ping(b"payload-%d" % n)],
        [ponged(b"payload-%d" % n) for n in range(10)],
    ),
]


@in_every_way(CASES)
def test_pings_are_answered_and_pongs_are_not(case: Case, way: str, codec: Codec) -> None:
    assert run(case, way, codec) == case.all_answers

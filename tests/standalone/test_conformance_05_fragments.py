"""Section 5: fragmented messages, and control frames between their fragments."""

from __future__ import annotations

from collections.abc import Sequence

from tests.standalone.cases import Case, Codec, closed, echoed, in_every_way, ponged, run
from tests.standalone.peer import more, ping, pong, text
from tests.support.websocket import Frame

TWO = [text("fragment1", final=False), more("fragment2", final=True)]
PINGED = [text("fragment1", final=False), ping(b"ping payload"), more("fragment2", final=True)]
WHOLE = echoed("fragment1fragment2")
PAYLOAD = "non-continuation payload"


def _thrice(first: int, sent: Sequence[bytes], answers: Sequence[Frame]) -> list[Case]:
    """Return the cases that differ only in how the bytes are cut, which is tried for all cases here."""
    return [Case(f"5.{first + n}", sent, answers) for n in range(3)]


LONG_SENT = [
    text("fragment1", final=False),
    more("fragment2"),
    ping(b"pongme 1!"),
    more("fragment3"),
    more("fragment4"),
    ping(b"pongme 2!"),
    more("fragment5", final=True),
]
LONG_ANSWERS = [ponged(b"pongme 1!"), ponged(b"pongme 2!"), echoed("".join(f"fragment{n}" for n in range(1, 6)))]

CASES = [
    Case("5.1", [ping(b"fragment1", final=False), more("fragment2", final=True)], [closed(1002)]),
    Case("5.2", [pong(b"fragment1", final=False), more("fragment2", final=True)], [closed(1002)]),
    *_thrice(3, TWO, [WHOLE]),
    *_thrice(6, PINGED, [ponged(b"ping payload"), WHOLE]),
    *_thrice(9, [more(PAYLOAD, final=True), text("Hello, world!")], [closed(1002)]),
    *_thrice(12, [more(PAYLOAD), text("Hello, world!")], [closed(1002)]),
    Case("5.15", [*TWO, more("fragment3"), text("fragment4")], [WHOLE, closed(1002)]),
    Case(
        "5.16", [more("fragment1"), text("fragment2", final=False), more("fragment3", final=True)] * 2, [closed(1002)]
    ),
    Case(
        "5.17",
        [more("fragment1", final=True), text("fragment2", final=False), more("fragment3", final=True)] * 2,
        [closed(1002)],
    ),
    Case("5.18", [text("fragment1", final=False), text("fragment2")], [closed(1002)]),
    Case("5.19", LONG_SENT, LONG_ANSWERS),
    Case("5.20", LONG_SENT, LONG_ANSWERS),
]


@in_every_way(CASES)
def test_fragments_become_one_message_and_control_frames_go_between_them(case: Case, way: str, codec: Codec) -> None:
    assert run(case, way, codec) == case.all_answers

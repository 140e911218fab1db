"""Section 1: messages in one frame, of every form of the length."""

from __future__ import annotations

from tests.standalone.cases import Case, Codec, echoed, in_every_way, run
from tests.standalone.peer import binary, text

SIZES = (0, 125, 126, 127, 128, 65535, 65536)


def _chopped(frame: bytes, size: int) -> list[bytes]:
    return [frame[at : at + size] for at in range(0, len(frame), size)]


CASES = [
    *(Case(f"1.1.{n}", [text("*" * size)], [echoed("*" * size)]) for n, size in enumerate(SIZES, 1)),
    Case("1.1.8", _chopped(text("*" * 65536), 997), [echoed("*" * 65536)]),
    *(Case(f"1.2.{n}", [binary(b"\xfe" * size)], [echoed(b"\xfe" * size)]) for n, size in enumerate(SIZES, 1)),
    Case("1.2.8", _chopped(binary(b"\xfe" * 65536), 997), [echoed(b"\xfe" * 65536)]),
]


@in_every_way(CASES)
def test_messages_of_every_length_come_back(case: Case, way: str, codec: Codec) -> None:
    assert run(case, way, codec) == case.all_answers

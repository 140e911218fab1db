"""Section 4: opcodes that are reserved."""

from __future__ import annotations

from tests.standalone.cases import Case, Codec, closed, echoed, in_every_way, run
from tests.standalone.peer import ping, text
from tests.support.websocket import encode_frame

HELLO = "Hello, world!"


def _cases(section: str, first: int) -> list[Case]:
    payload = b"reserved opcode payload"
    after = [closed(1002)]
    return [
        Case(f"{section}.1", [encode_frame(b"", first)], after),
        Case(f"{section}.2", [encode_frame(payload, first + 1)], after),
        Case(f"{section}.3", [text(HELLO), encode_frame(b"", first + 2), ping()], [echoed(HELLO), *after]),
        Case(f"{section}.4", [text(HELLO), encode_frame(payload, first + 3), ping()], [echoed(HELLO), *after]),
        Case(f"{section}.5", [text(HELLO), encode_frame(payload, first + 4), ping()], [echoed(HELLO), *after]),
    ]


CASES = [*_cases("4.1", 3), *_cases("4.2", 11)]


@in_every_way(CASES)
def test_a_reserved_opcode_ends_the_connection(case: Case, way: str, codec: Codec) -> None:
    assert run(case, way, codec) == case.all_answers

"""Section 10: automatic fragmentation."""

from __future__ import annotations

from tests.standalone.cases import Case, Codec, echoed, in_every_way, run
from tests.standalone.peer import more, text

PAYLOAD = "*" * 65536
PARTS = [PAYLOAD[at : at + 1300] for at in range(0, 65536, 1300)]

CASES = [
    Case(
        "10.1.1",
        [text(PARTS[0], final=False), *map(more, PARTS[1:-1]), more(PARTS[-1], final=True)],
        [echoed(PAYLOAD)],
    )
]


@in_every_way(CASES)
def test_a_message_that_its_sender_cut_up_comes_back_whole(case: Case, way: str, codec: Codec) -> None:
    assert run(case, way, codec) == case.all_answers

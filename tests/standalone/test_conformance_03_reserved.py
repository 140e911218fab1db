"""Section 3: reserved bits, which nobody gave a meaning to."""

from __future__ import annotations

from tests.standalone.cases import Case, Codec, closed, echoed, in_every_way, run
from tests.standalone.peer import binary, close, ping, text

HELLO = "Hello, world!"


def _after_a_text(bits: int) -> list[bytes]:
    return [text(HELLO), text(HELLO, reserved=bits), ping()]


CASES = [
    Case("3.1", [text(HELLO, reserved=1)], [closed(1002)]),
    Case("3.2", _after_a_text(2), [echoed(HELLO), closed(1002)]),
    Case("3.3", _after_a_text(3), [echoed(HELLO), closed(1002)]),
    Case("3.4", _after_a_text(4), [echoed(HELLO), closed(1002)]),
    Case("3.5", [binary(b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", reserved=5)], [closed(1002)]),
    Case("3.6", [ping(HELLO.encode(), reserved=6)], [closed(1002)]),
    Case("3.7", [close(1000, reserved=7)], [closed(1002)]),
]


@in_every_way(CASES)
def test_a_reserved_bit_ends_the_connection(case: Case, way: str, codec: Codec) -> None:
    assert run(case, way, codec) == case.all_answers

"""Section 7: the closing handshake, its codes and reasons."""

from __future__ import annotations

import pytest

from tests.standalone.cases import Case, Codec, closed, echoed, in_every_way, run
from tests.standalone.peer import Peer, close, more, ping, text
from tests.support.websocket import CLOSE, encode_frame

HELLO = "Hello World!"
KOSME = "κόσμε".encode()
VALID = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999, 1012, 1013, 1014)
INVALID = (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 1015)

CASES = [
    Case("7.1.1", [text(HELLO), close()], [echoed(HELLO), closed(1000)]),
    Case("7.1.2", [close(), close()], [closed(1000)]),
    Case("7.1.3", [close(), ping(b"after the end")], [closed(1000)]),
    Case("7.1.4", [close(), text(HELLO)], [closed(1000)]),
    Case("7.1.5", [text("fragment1", final=False), close(), more("fragment2", final=True)], [closed(1000)]),
    Case("7.1.6", [text("BAsd7&jh23" * 26214), close(), ping()], [echoed("BAsd7&jh23" * 26214), closed(1000)]),
    Case("7.3.1", [close(None)], [closed(None)]),
    Case("7.3.2", [encode_frame(b"a", CLOSE)], [closed(1002)]),
    Case("7.3.3", [close(1000)], [closed(1000)]),
    Case("7.3.4", [close(1000, "Hello World!")], [closed(1000)]),
    Case("7.3.5", [close(1000, "*" * 123)], [closed(1000)]),
    Case("7.3.6", [close(1000, "*" * 124)], [closed(1002)]),
    Case("7.5.1", [close(1000, KOSME + b"\xed\xa0\x80edited")], [closed(1007)]),
    *(Case(f"7.7.{n}", [close(code)], [closed(code)]) for n, code in enumerate(VALID, 1)),
    *(Case(f"7.9.{n}", [close(code)], [closed(1002)]) for n, code in enumerate(INVALID, 1)),
    Case("7.13.1", [close(5000)], [closed(1002)]),
    Case("7.13.2", [close(65535)], [closed(1002)]),
]


@in_every_way(CASES)
def test_a_close_frame_is_answered_with_its_code_or_refused(case: Case, way: str, codec: Codec) -> None:
    assert run(case, way, codec) == case.all_answers


@pytest.mark.parametrize("last", [close(), text(HELLO, reserved=1)], ids=["after a close frame", "after a broken rule"])
def test_what_comes_after_the_end_is_read_and_thrown_away(last: bytes, codec: Codec) -> None:
    with Peer.open(codec.port) as peer:
        # Unread, the rest would make the system reset the connection, and the close frame be lost.
        peer.send(last + text("*" * 5_000_000))
        assert [frame.opcode for frame in peer.receive_until_close()] == [CLOSE]

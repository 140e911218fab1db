"""Section 6: text is UTF-8, and what is not is refused as soon as it shows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.standalone.cases import Case, Codec, closed, echoed, feed, in_every_way, run, without_reason
from tests.standalone.peer import Peer, more, text

KOSME = "κόσμε".encode()
BAD = KOSME + b"\xed\xa0\x80" + b"edited"
LONG = "Hello-µ@ßöäüàá-UTF-8!!".encode()


def _frames(*payloads: bytes) -> list[bytes]:
    first, *rest = payloads
    last = len(rest) - 1
    return [text(first, final=not rest), *(more(part, final=n == last) for n, part in enumerate(rest))]


def _octets(payload: bytes) -> list[bytes]:
    return [payload[n : n + 1] for n in range(len(payload))]


def _case(number: str, *payloads: bytes) -> Case:
    """Return a case that Python's own decoder judges."""
    try:
        return Case(number, _frames(*payloads), [echoed(b"".join(payloads).decode())])
    except UnicodeDecodeError:
        return Case(number, _frames(*payloads), [closed(1007)])


def _numbered(section: str, *payloads: str | bytes) -> Iterator[Case]:
    for n, payload in enumerate(payloads, 1):
        yield _case(f"6.{section}.{n}", bytes.fromhex(payload) if isinstance(payload, str) else payload)


def _lonely(*starts: int) -> bytes:
    return b"".join(bytes([octet, 0x20]) for octet in range(*starts))


UNFINISHED = ("c0", "e080", "f08080", "f8808080", "fc80808080", "df", "efbf", "f7bfbf", "fbbfbfbf", "fdbfbfbfbf")
SURROGATES = ("eda080", "edadbf", "edae80", "edafbf", "edb080", "edbe80", "edbfbf")
PAIRS = [high + low for high in SURROGATES[:4] for low in ("edb080", "edbfbf")]
NO_CHARACTERS = [
    "efbfbe",
    "efbfbf",
    *((chr((plane << 16) | low)).encode().hex() for plane in range(1, 17) for low in (0xFFFE, 0xFFFF)),
]

CASES = [
    _case("6.1.1", b""),
    _case("6.1.2", b"", b"", b""),
    _case("6.1.3", b"", b"middle frame payload", b""),
    _case("6.2.1", LONG),
    _case("6.2.2", LONG[:7], LONG[7:]),
    _case("6.2.3", *_octets(LONG)),
    _case("6.2.4", *_octets(KOSME)),
    _case("6.3.1", BAD),
    _case("6.3.2", *_octets(BAD)),
    *_numbered("5", KOSME, KOSME + b"\xf4\x8f\xbf\xbf", KOSME + b"\xf4", b"\xf4\x8f", KOSME * 2),
    *_numbered("6", *(KOSME[:n] for n in range(1, len(KOSME) + 1))),
    *_numbered("7", "00", "c280", "e0a080", "f0908080"),
    *_numbered("8", "f888808080", "fc8480808080"),
    *_numbered("9", "7f", "dfbf", "efbfbf", "f48fbfbf"),
    *_numbered("10", "f7bfbfbf", "fbbfbfbfbf", "fdbfbfbfbfbf"),
    *_numbered("11", "ed9fbf", "ee8080", "efbfbd", "f48fbfbf", "f4908080"),
    *_numbered("12", "80", "bf", *("80bf" * n + "80" * odd for n in (1, 2) for odd in (0, 1)), "80bf" * 3),
    _case("6.12.8", bytes(range(0x80, 0xC0))),
    *_numbered("13", *(_lonely(*r) for r in ((0xC0, 0xE0), (0xE0, 0xF0), (0xF0, 0xF8), (0xF8, 0xFC), (0xFC, 0xFE)))),
    *_numbered("14", *UNFINISHED),
    *_numbered("15", "".join(UNFINISHED)),
    *_numbered("16", "fe", "ff", "fefeffff"),
    *_numbered("17", "c0af", "e080af", "f08080af", "f8808080af", "fc80808080af"),
    *_numbered("18", "c1bf", "e09fbf", "f08fbfbf", "f887bfbfbf", "fc83bfbfbfbf"),
    *_numbered("19", "c080", "e08080", "f0808080", "f880808080", "fc8080808080"),
    *_numbered("20", *SURROGATES),
    *_numbered("21", *PAIRS),
    *_numbered("22", *NO_CHARACTERS),
    *_numbered("23", *(f"efbf{low:x}" for low in range(0xB9, 0xC0))),
]


@in_every_way(CASES)
def test_text_comes_back_if_it_is_utf8_and_ends_the_connection_if_not(case: Case, way: str, codec: Codec) -> None:
    assert run(case, way, codec) == case.all_answers


FRAMES = _frames(KOSME, b"\xed\xa0\x80", b"edited")
CHOPS = text(KOSME + b"\xf4\x90\x80\x80edited")
END = len(CHOPS) - len(b"\xf4\x90\x80\x80edited")
SURROGATE = text(KOSME + b"\xed\xa0\x80edited")

#: What shows with its last byte that it is bad, before the end of its message.
EARLIEST = [
    pytest.param(_frames(KOSME, b"\xf4", b"\x90", b"")[:3], id="6.4.2"),
    pytest.param([SURROGATE[:END], SURROGATE[END : END + 2]], id="6.4.3, at the second byte"),
    pytest.param([CHOPS[:END], CHOPS[END : END + 1], CHOPS[END + 1 : END + 2]], id="6.4.4"),
]
EARLY = [
    pytest.param(FRAMES[:2], id="6.4.1"),
    pytest.param([SURROGATE[:END], SURROGATE[END : END + 3]], id="6.4.3"),
    *EARLIEST,
]


@pytest.mark.parametrize("pieces", EARLY)
def test_bad_text_ends_the_connection_before_the_rest_of_it_comes(pieces: list[bytes], codec: Codec) -> None:
    with Peer.open(codec.port) as peer:
        peer.send_in_pieces(pieces)
        assert [without_reason(frame) for frame in peer.receive_until_close()] == [closed(1007)]


@pytest.mark.parametrize("pieces", EARLIEST)
def test_bad_text_is_not_refused_before_it_shows(pieces: list[bytes], codec: Codec) -> None:
    reader = codec.frames.FrameReader(codec.frames.FrameSettings(1000))
    feed(reader, b"".join(pieces)[:-1])
    with pytest.raises(codec.frames.FrameError) as caught:
        feed(reader, pieces[-1][-1:])
    assert caught.value.code == 1007

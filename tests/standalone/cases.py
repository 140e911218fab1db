"""Conformance cases: what a client sends, what a server that echoes answers, and the ways to try both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

from primacron.errors import FrameError
from tests.standalone.peer import Peer, close
from tests.support.websocket import BINARY, CLOSE, PING, PONG, TEXT, Frame

#: Larger cases are not sent byte by byte over a socket, nor are those with many frames in memory.
SMALL = 2_000

MEMORY, MEMORY_BY_BYTE, SOCKET, SOCKET_BY_FRAME, SOCKET_BY_BYTE = (
    "memory",
    "memory, byte by byte",
    "socket",
    "socket, frame by frame",
    "socket, byte by byte",
)


@dataclass(frozen=True)
class Codec:
    """The frame codec, and the port of an echo server that runs on it."""

    name: str
    frames: ModuleType
    port: int


@dataclass(frozen=True)
class Case:
    """
    One case of the list.

    ``sent`` are the frames of the client, ``answers`` those of the server. Where these do not
    end with a close frame, the connection must live: it is then closed by the client.
    """

    number: str
    sent: Sequence[bytes]
    answers: Sequence[Frame]

    @property
    def all_sent(self) -> Sequence[bytes]:
        """What the client sends, its goodbye included."""
        return self.sent if self._ends else [*self.sent, close(1000)]

    @property
    def all_answers(self) -> list[Frame]:
        """What the server answers, its goodbye included."""
        return list(self.answers) if self._ends else [*self.answers, closed(1000)]

    @property
    def _ends(self) -> bool:
        return bool(self.answers) and self.answers[-1].opcode == CLOSE


def echoed(content: str | bytes) -> Frame:
    """Return the frame of a message that comes back."""
    return Frame(TEXT, content.encode()) if isinstance(content, str) else Frame(BINARY, content)


def ponged(payload: bytes = b"") -> Frame:
    """Return the answer to a ping."""
    return Frame(PONG, payload)


def closed(code: int | None) -> Frame:
    """Return a close frame of the server, without its reason."""
    return Frame(CLOSE, b"" if code is None else code.to_bytes(2, "big"))


def in_every_way(cases: Iterable[Case]) -> pytest.MarkDecorator:
    """Parametrise a test by case and way; the number of the case begins each id."""
    return pytest.mark.parametrize(
        ("case", "way"), [pytest.param(case, way, id=f"{case.number}-{way}") for case in cases for way in _ways(case)]
    )


def _ways(case: Case) -> Iterator[str]:
    size = sum(map(len, case.sent))
    yield MEMORY
    if size <= 100_000:
        yield MEMORY_BY_BYTE
    yield SOCKET
    yield SOCKET_BY_FRAME
    if size <= SMALL:
        yield SOCKET_BY_BYTE


def run(case: Case, way: str, codec: Codec) -> list[Frame]:
    """Return what was answered, up to the close frame; the reasons of closing are left out."""
    pieces = split(case.all_sent, way)
    if way in (MEMORY, MEMORY_BY_BYTE):
        return answer_in_memory(codec.frames, pieces)
    with Peer.open(codec.port) as peer:
        peer.send_in_pieces(pieces)
        return [without_reason(frame) for frame in peer.receive_until_close()]


def split(frames: Iterable[bytes], way: str) -> list[bytes]:
    """Return the pieces that go out one by one."""
    if way == SOCKET_BY_FRAME:
        return list(frames)
    whole = b"".join(frames)
    if way in (MEMORY_BY_BYTE, SOCKET_BY_BYTE):
        return [whole[at : at + 1] for at in range(len(whole))]
    return [whole]


def without_reason(frame: Frame) -> Frame:
    """Return the frame; of a close frame the code alone."""
    return Frame(CLOSE, frame.payload[:2]) if frame.opcode == CLOSE else frame


def answer_in_memory(frames: ModuleType, pieces: Iterable[bytes], max_size: int = 1 << 25) -> list[Frame]:
    """Return what an echo on this codec answers, up to the close frame."""
    answers: list[Frame] = []

    class Echo(frames.FrameReader):  # type: ignore[misc, name-defined]
        def on_text(self, text: str) -> None:
            answers.append(echoed(text))

        def on_binary(self, data: bytes) -> None:
            answers.append(echoed(data))

        def on_control(self, opcode: int, payload: bytes) -> None:
            if opcode == CLOSE:
                self.halted = True
                frames.decode_close(payload)
                answers.append(Frame(CLOSE, payload[:2]))
            elif opcode == PING:
                answers.append(ponged(payload))

    settings = frames.FrameSettings(max_size)
    echo = Echo(settings)
    try:
        for piece in pieces:
            feed(echo, piece)
    except FrameError as error:
        answers.append(closed(error.code))
    return answers


def feed(reader: Any, piece: bytes) -> None:
    """Let a reader read, through the buffer that it shares with others."""
    buffer = reader.settings.buffer
    for start in range(0, len(piece), len(buffer)):
        part = piece[start : start + len(buffer)]
        buffer[: len(part)] = part
        reader.feed(buffer, len(part))
        buffer[: len(part)] = bytes(len(part))  # another connection reads into it

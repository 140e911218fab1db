"""What a FrameReader makes of bytes, as plain data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, TypeAlias

from primacron.errors import FrameError
from primacron.standalone.deflate import Inflater
from tests.standalone.cases import feed

#: A text, binary data, or opcode and payload of a control frame; at the end perhaps the code of an error.
Heard: TypeAlias = list[str | bytes | tuple[int, bytes] | int]


def new_reader(
    frames: ModuleType,
    heard: Heard,
    *,
    max_size: int = 1_000_000,
    inflater: Inflater | None = None,
    halt: Callable[[], bool] = lambda: False,
) -> Any:
    """Return a reader that writes down what it hears, and halts after each message for which ``halt`` says so."""

    class Reader(frames.FrameReader):  # type: ignore[misc, name-defined]
        def on_text(self, text: str) -> None:
            self.hear(text)

        def on_binary(self, data: bytes) -> None:
            self.hear(data)

        def on_control(self, opcode: int, payload: bytes) -> None:
            self.hear((opcode, payload))

        def hear(self, what: str | bytes | tuple[int, bytes]) -> None:
            heard.append(what)
            self.halted = halt()

    return Reader(frames.FrameSettings(max_size, 4096), inflater)


def read(
    frames: ModuleType, pieces: Iterable[bytes], *, max_size: int = 1_000_000, inflater: Inflater | None = None
) -> Heard:
    """Return what a reader hears; it may raise nothing but a FrameError, whose code comes last."""
    heard: Heard = []
    reader = new_reader(frames, heard, max_size=max_size, inflater=inflater)
    try:
        for piece in pieces:
            feed(reader, piece)
    except FrameError as error:
        heard.append(error.code)
    return heard

"""
The logger ``primacron``: what went wrong and no listener was there to hear.

The library adds no handler and sets no level: Python prints warnings to stderr as
long as the application has not configured its own logging.

Strangers cause most errors and may cause them as fast as they like. So of errors of
one kind and about one thing one line is written a minute. The others are counted,
and the count goes into the next line, or is written when there is none.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable
from typing import Final

LOGGER: Final = logging.getLogger("primacron")

#: Seconds between two lines about the same thing.
EVERY: Final = 60.0
#: Things of one kind that have lines of their own; strangers name some of them, so the rest share one line.
MOST: Final = 32
#: Characters of a text that a line shows.
MAX_TEXT: Final = 500
#: Characters of a line.
MAX_LINE: Final = 1_500
#: Frames of a traceback that are shown: to read a thousand, of a recursion without end, holds up the event loop.
MAX_FRAMES: Final = 50
#: Characters of a traceback that are shown: the exception and its innermost frames are at the end.
MAX_TRACEBACK: Final = 8_000

#: What the things without a line of their own are remembered as.
_OTHERS: Final = ""


class _Line:
    """A line that was written, and how many like it were left out since."""

    __slots__ = ("due", "left_out", "text")

    def __init__(self) -> None:
        self.text = ""
        self.left_out = 0
        self.due = 0.0


class Log:
    """
    What one server writes, a line a minute about each thing.

    ``later``, when it is set, calls a function after so many seconds; it is asked once
    a minute while there is something to count, and never otherwise.
    """

    __slots__ = ("_clock", "_is_sweeping", "_lines", "later")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lines: dict[str, dict[str, _Line]] = {}
        self._is_sweeping = False
        self.later: Callable[[float, Callable[[], object]], object] | None = None

    def __len__(self) -> int:
        """Return how many things are remembered."""
        return sum(map(len, self._lines.values()))

    def tell(
        self,
        kind: str,
        about: str,
        describe: Callable[[], str],
        *,
        level: int = logging.WARNING,
        error: BaseException | None = None,
    ) -> None:
        """
        Write a line, unless one was written within the last minute.

        ``kind`` is one of a fixed set, such as ``error::protocol``. ``about`` tells
        things of one kind apart, and may come from a client. ``describe`` is called
        for what is written only. With an ``error`` its traceback follows.
        """
        if not LOGGER.isEnabledFor(level):
            return
        now = self._clock()
        line = self._line(kind, about)
        if now < line.due:
            line.left_out += 1
            return
        line.text = one_line(describe(), MAX_LINE)
        shown = f"{line.text} ({line.left_out} more like it were left out)" if line.left_out else line.text
        line.left_out = 0
        line.due = now + EVERY
        write(LOGGER, level, shown, error)
        self._sweep_later()

    def flush(self) -> None:
        """Write what is counted only, and forget everything: the server ends."""
        for lines in self._lines.values():
            for line in lines.values():
                _write_count(line)
        self._lines.clear()
        self._is_sweeping = False  # whoever was to call it may have ended

    def _line(self, kind: str, about: str) -> _Line:
        lines = self._lines.setdefault(kind, {})
        about = about[:MAX_TEXT]  # a name may be as long as a message
        line = lines.get(about)
        if line is None:
            if len(lines) >= MOST:
                about = _OTHERS
            line = lines.setdefault(about, _Line())
        return line

    def _sweep_later(self) -> None:
        if self.later is not None and not self._is_sweeping:
            self._is_sweeping = True
            self.later(EVERY, self.sweep)

    def sweep(self) -> None:
        """Write the counts of the last minute; forget what has not happened again."""
        self._is_sweeping = False
        now = self._clock()
        for kind, lines in list(self._lines.items()):
            for about, line in list(lines.items()):
                if now < line.due:
                    continue
                if line.left_out:
                    _write_count(line)
                    line.due = now + EVERY
                else:
                    del lines[about]
            if not lines:
                del self._lines[kind]
        if self._lines:
            self._sweep_later()


def _write_count(line: _Line) -> None:
    if line.left_out:
        write(LOGGER, logging.WARNING, f"{line.left_out} more like it: {line.text}")
        line.left_out = 0


def write(logger: logging.Logger, level: int, text: str, error: BaseException | None = None) -> None:
    """
    Write a line, and the traceback of an error beneath it.

    Clients have a say in what exceptions say. So the traceback is cut, its controls
    are escaped and its lines are indented: none of it can pass for a line of the log.
    """
    exc_info = None if error is None else (type(error), error, error.__traceback__)
    record = logger.makeRecord(logger.name, level, __file__, 0, text, (), exc_info)
    if error is not None:
        record.exc_text = _traceback(error)
    logger.handle(record)


def one_line(text: str, limit: int = MAX_TEXT) -> str:
    """Cut a text and escape line ends and controls: clients have a say in errors, and none in the lines of a log."""
    return _escaped(text if len(text) <= limit else f"{text[:limit]}...")


def text_of(error: BaseException) -> str:
    """Return what an exception says, or else its type; it may be one that cannot say anything."""
    try:
        return str(error) or type(error).__name__
    except Exception:
        return type(error).__name__


def _traceback(error: BaseException) -> str:
    text = "".join(traceback.format_exception(error, limit=-MAX_FRAMES)).rstrip("\n")
    if len(text) > MAX_TRACEBACK:
        text = f"...\n{text[-MAX_TRACEBACK:]}"
    return "\n".join(f"  {_escaped(line)}" for line in text.split("\n"))


def _escaped(text: str) -> str:
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)

"""
The logger ``primacron``: failures that no listener handles.

The library adds no handler and sets no level: Python prints warnings to stderr
unless the application has configured logging.

Most errors are caused by strangers, who can cause them as fast as they like. So
errors of the same kind about the same thing get one line a minute. The others are
counted; the count goes into the next line, or gets a line of its own if there is no
next.
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
#: Things of one kind that get lines of their own; some are named by strangers, so the rest share one line.
MOST: Final = 32
#: Characters shown of a text.
MAX_TEXT: Final = 500
#: Characters in a line.
MAX_LINE: Final = 1_500
#: Traceback frames shown: formatting the thousand of a runaway recursion would block the event loop.
MAX_FRAMES: Final = 50
#: Characters shown of a traceback: the exception and its innermost frames are at the end.
MAX_TRACEBACK: Final = 8_000

#: The key of all things without a line of their own.
_OTHERS: Final = ""


class _Line:
    """A line already written, and how many like it have been suppressed since."""

    __slots__ = ("due", "left_out", "text")

    def __init__(self) -> None:
        self.text = ""
        self.left_out = 0
        self.due = 0.0


class Log:
    """
    The log of one server, limited to a line a minute about each thing.

    ``later``, if set, calls a function after so many seconds; it is used once a minute
    while anything is being counted, and not otherwise.
    """

    __slots__ = ("_clock", "_is_sweeping", "_lines", "later")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lines: dict[str, dict[str, _Line]] = {}
        self._is_sweeping = False
        self.later: Callable[[float, Callable[[], object]], object] | None = None

    def __len__(self) -> int:
        """Return the number of things remembered."""
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
        only if the line is written. The traceback of an ``error`` follows the line.
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
        """Write all pending counts and forget everything, as the server shuts down."""
        for lines in self._lines.values():
            for line in lines.values():
                _write_count(line)
        self._lines.clear()
        self._is_sweeping = False  # the timer may have ended with its event loop

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
        """Write the counts of the last minute; forget what has not recurred."""
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
    Write a line, with the traceback of an error beneath it.

    Clients can influence the text of exceptions. So the traceback is truncated, its
    control characters are escaped and its lines indented: none can pass for a log line.
    """
    exc_info = None if error is None else (type(error), error, error.__traceback__)
    record = logger.makeRecord(logger.name, level, __file__, 0, text, (), exc_info)
    if error is not None:
        record.exc_text = _traceback(error)
    logger.handle(record)


def one_line(text: str, limit: int = MAX_TEXT) -> str:
    """Truncate a text and escape newlines and control characters, lest a client forge log lines."""
    return _escaped(text if len(text) <= limit else f"{text[:limit]}...")


def text_of(error: BaseException) -> str:
    """Return the text of an exception, or its type if that is empty or cannot be produced."""
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

"""What is written when nobody listens: how often, how much, and that no stranger writes lines of his own."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator

import pytest

from primacron.logs import EVERY, LOGGER, MAX_LINE, MAX_TEXT, MAX_TRACEBACK, MOST, Log, write


class Hours:
    """A clock that is set by hand, and calls what is due."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.due: list[tuple[float, Callable[[], object]]] = []

    def __call__(self) -> float:
        return self.now

    def later(self, seconds: float, function: Callable[[], object]) -> None:
        self.due.append((self.now + seconds, function))

    def move(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self.due and min(self.due)[0] <= end:
            self.due.sort(key=lambda each: each[0])
            self.now, function = self.due.pop(0)
            function()
        self.now = end


@pytest.fixture
def clock() -> Hours:
    return Hours()


@pytest.fixture
def log(clock: Hours) -> Log:
    log = Log(clock)
    log.later = clock.later
    return log


@pytest.fixture
def printed() -> Iterator[io.StringIO]:
    """What a program that has configured nothing prints; its format is that of Python's last resort."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    LOGGER.addHandler(handler)
    yield stream
    LOGGER.removeHandler(handler)


def tell(log: Log, about: str = "bid", text: str = "no bid", kind: str = "error::validation") -> None:
    log.tell(kind, about, lambda: text)


def test_the_same_is_written_once_a_minute_with_the_count_of_what_was_left_out(
    log: Log, clock: Hours, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        tell(log)
    assert caplog.messages == ["no bid"]
    clock.due.clear()  # nobody swept in between
    clock.move(EVERY)
    tell(log, text="no bid again")
    assert caplog.messages[1:] == ["no bid again (4 more like it were left out)"]
    tell(log)
    assert len(caplog.messages) == 2


def test_what_stops_happening_is_counted_to_the_end(log: Log, clock: Hours, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(5):
        tell(log)
    clock.move(EVERY)
    assert caplog.messages[1:] == ["4 more like it: no bid"]
    clock.move(3 * EVERY)
    assert len(caplog.messages) == 2
    assert len(log) == 0
    assert clock.due == []  # nothing is called when there is nothing to say


def test_what_goes_on_happening_is_one_line_a_minute(log: Log, clock: Hours, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(600):
        tell(log)
        clock.move(1.0)
    assert 10 <= len(caplog.messages) <= 11
    log.flush()
    told = [int(each.partition(" more like it")[0].rpartition("(")[2]) for each in caplog.messages[1:]]
    written = sum(not each[0].isdigit() for each in caplog.messages)
    assert sum(told) + written == 600


def test_other_things_and_other_kinds_have_lines_of_their_own(log: Log, caplog: pytest.LogCaptureFixture) -> None:
    tell(log, "bid", "a")
    tell(log, "ask", "b")
    tell(log, "bid", "c", kind="error::invalid")
    tell(log, "bid", "left out")
    assert caplog.messages == ["a", "b", "c"]


def test_strangers_who_invent_names_fill_neither_memory_nor_disk(
    log: Log, clock: Hours, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(10_000):
        tell(log, f"{number}-" + "x" * 10_000, f"no event {number}")
    tell(log, "bid", "a bug", kind="error::handler")  # which they cannot hide
    assert len(log) == MOST + 2
    assert len(caplog.messages) == MOST + 2
    assert caplog.messages[-1] == "a bug"
    assert max(len(about) for lines in log._lines.values() for about in lines) <= MAX_TEXT
    clock.move(EVERY)
    assert caplog.messages[MOST + 2 :] == [f"{10_000 - MOST - 1} more like it: no event {MOST}"]
    clock.move(2 * EVERY)
    assert len(log) == 0


def test_at_the_end_what_was_only_counted_is_written(log: Log, caplog: pytest.LogCaptureFixture) -> None:
    tell(log)
    tell(log)
    log.flush()
    assert caplog.messages == ["no bid", "1 more like it: no bid"]
    tell(log)
    assert caplog.messages[2:] == ["no bid"]


def test_what_nobody_reads_is_not_even_described(log: Log, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "primacron")
    log.tell("error::protocol", "", lambda: pytest.fail("described"))
    assert caplog.messages == []
    assert len(log) == 0


def test_a_traceback_is_beneath_its_line_and_cannot_pass_for_a_line(printed: io.StringIO) -> None:
    try:
        raise ValueError("a\nWARNING:root:all is well\x1b[2J\ud83d" + "x" * 50_000 + "\nthe end")
    except ValueError as error:
        write(LOGGER, logging.ERROR, "error::handler: failed", error)
    first, *rest = printed.getvalue().splitlines()
    assert first == "error::handler: failed"
    assert rest[-1] == "  the end"
    assert all(line.startswith("  ") and line.isprintable() for line in rest)
    assert sum(map(len, rest)) < 1.2 * MAX_TRACEBACK


def test_of_a_recursion_without_end_the_innermost_frames_are_shown(printed: io.StringIO) -> None:
    def fall(depth: int) -> None:
        if depth == 0:
            raise RecursionError("deep enough")
        fall(depth - 1)

    with pytest.raises(RecursionError) as raised:
        fall(500)
    write(LOGGER, logging.ERROR, "failed", raised.value)
    lines = printed.getvalue().splitlines()
    assert lines[-1] == "  RecursionError: deep enough"
    assert '    raise RecursionError("deep enough")' in "\n".join(lines)
    assert len(lines) < 20  # the same frame again and again is told as a number


def test_handlers_of_a_log_get_the_exception_itself(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(KeyError) as raised:
        raise KeyError("lot")
    write(LOGGER, logging.ERROR, "failed", raised.value)
    (record,) = caplog.records
    assert record.exc_info == (KeyError, raised.value, raised.value.__traceback__)


def test_line_ends_and_controls_of_a_line_are_escaped_and_it_is_cut(log: Log, caplog: pytest.LogCaptureFixture) -> None:
    tell(log, text="a\nb\u2028c\x1b[2Jd" + "x" * 5_000)
    (line,) = caplog.messages
    assert line.startswith("a\\nb\\u2028c\\x1b[2Jd")
    assert len(line) < MAX_LINE + 50

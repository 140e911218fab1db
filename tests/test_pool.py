"""The pool of threads: how many run at once, what waits, and what is left out at its end."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future

import pytest

from primacron.threads import DefaultExecutor, Threads

DEADLINE = 10.0


class Gate:
    """Functions that block until it is opened."""

    def __init__(self) -> None:
        self._opened = threading.Event()
        self._lock = threading.Lock()
        self.entered = threading.Semaphore(0)
        self.inside = 0
        self.most = 0

    def enter(self, number: int = 0) -> int:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.entered.release()
        assert self._opened.wait(DEADLINE)
        with self._lock:
            self.inside -= 1
        return number

    def wait_for(self, count: int) -> None:
        for _ in range(count):
            assert self.entered.acquire(timeout=DEADLINE)

    def open(self) -> None:
        self._opened.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


def results(futures: list[Future[int]]) -> list[int]:
    return [future.result(DEADLINE) for future in futures]


def test_as_many_run_at_once_as_it_has_threads_and_others_wait(gate: Gate) -> None:
    threads = Threads("test", 3)
    futures = [threads.start(gate.enter, number) for number in range(10)]
    gate.wait_for(3)
    assert not gate.entered.acquire(timeout=0.05)
    gate.open()
    assert results(futures) == [*range(10)]
    assert gate.most == 3
    threads.close()


def test_an_idle_thread_is_used_again_and_each_function_finds_one_while_there_may_be_more() -> None:
    threads = Threads("test", 100)
    for _ in range(300):  # between two looks of an idle thread something may come
        gate = Gate()
        futures = [threads.start(gate.enter, number) for number in range(2)]
        gate.wait_for(2)
        gate.open()
        assert results(futures) == [0, 1]
    assert threads._count <= 4
    threads.close()


def test_what_is_cancelled_in_time_is_never_called(gate: Gate) -> None:
    threads = Threads("test", 1)
    called: list[int] = []
    running = threads.start(gate.enter)
    waiting = [threads.start(called.append, number) for number in range(2)]
    gate.wait_for(1)
    assert waiting[0].cancel()
    assert not running.cancel()
    gate.open()
    running.result(DEADLINE)
    waiting[1].result(DEADLINE)
    assert called == [1]
    threads.close()


def test_whatever_a_function_raises_is_in_its_future_and_the_thread_goes_on() -> None:
    threads = Threads("test", 1)
    for error in (ValueError("x"), SystemExit(3), KeyboardInterrupt()):

        def fail(error: BaseException = error) -> None:
            raise error

        assert threads.start(fail).exception(DEADLINE) is error
    assert threads.start(lambda: 5).result(DEADLINE) == 5
    threads.close()


def test_its_end_leaves_out_what_waits_and_waits_for_nothing(gate: Gate) -> None:
    threads = Threads("test", 1)
    running, waiting = threads.start(gate.enter, 1), threads.start(gate.enter, 2)
    gate.wait_for(1)
    assert threads.wait(0.01) == 2
    threads.close()
    with pytest.raises(CancelledError):
        waiting.result(0)
    with pytest.raises(RuntimeError, match="the server has ended"):
        threads.start(print)
    gate.open()
    assert running.result(DEADLINE) == 1
    assert threads.wait(DEADLINE) == 0


def test_its_threads_do_not_hold_up_the_end_of_the_interpreter(gate: Gate) -> None:
    threads = Threads("test")
    threads.start(gate.enter)
    assert [each.daemon for each in threading.enumerate() if each.name == "test 1"] == [True]


async def test_to_thread_runs_in_it_with_the_callers_context_and_its_end_is_bounded(gate: Gate) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    loop = asyncio.get_running_loop()
    left = [0.01]
    executor = DefaultExecutor(lambda: left[0])
    loop.set_default_executor(executor)
    variable.set("seen")
    assert await asyncio.to_thread(lambda: (variable.get(), threading.current_thread().daemon)) == ("seen", True)
    endless = asyncio.create_task(asyncio.to_thread(gate.enter))
    await asyncio.sleep(0)
    await loop.shutdown_default_executor()
    assert executor.cut == 1
    gate.open()
    assert await endless == 0

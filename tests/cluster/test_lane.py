"""Commands to the backend, one batch after another."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from primacron.cluster.base import BackendUnavailable
from primacron.cluster.lane import MAX_BATCH, MAX_BYTES, Command, Lane, demand

DEADLINE = 5.0


class Counter:
    """Where commands are run: batch by batch, each only when it is let through."""

    def __init__(self) -> None:
        self.batches: list[list[Command]] = []
        self.running = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.came = asyncio.Event()
        #: Raised by the next batch.
        self.failure: BaseException | None = None

    async def execute(self, commands: Sequence[Command]) -> list[Any]:
        assert self.running == 0, "one batch at a time"
        self.running += 1
        self.batches.append([*commands])
        self.came.set()
        try:
            await self.gate.wait()
            if self.failure is not None:
                failure, self.failure = self.failure, None
                raise failure
            return [self.result(command) for command in commands]
        finally:
            self.running -= 1

    @staticmethod
    def result(command: Command) -> object:
        return BackendUnavailable("this one alone") if command[0] == "BAD" else f"did {command[0]}"

    async def begun(self) -> None:
        """Wait until the next batch has come."""
        self.came.clear()
        async with asyncio.timeout(DEADLINE):
            await self.came.wait()


@pytest.fixture
def counter() -> Counter:
    return Counter()


@pytest.fixture
async def lane(counter: Counter, anyio_backend: object) -> AsyncIterator[Lane]:
    lane = Lane(counter.execute)
    yield lane
    await lane.close()


async def test_a_command_returns_its_result(lane: Lane, counter: Counter) -> None:
    assert await lane.submit("GET", "key", 1) == "did GET"
    assert counter.batches == [[("GET", "key", 1)]]


async def test_what_is_submitted_in_one_tick_is_one_batch_in_order(lane: Lane, counter: Counter) -> None:
    futures = [lane.submit(number) for number in range(100)]
    assert await asyncio.gather(*futures) == [f"did {number}" for number in range(100)]
    assert counter.batches == [[(number,) for number in range(100)]]


async def test_what_is_submitted_while_a_batch_runs_goes_with_the_next_one(lane: Lane, counter: Counter) -> None:
    counter.gate.clear()
    first = lane.submit("first")
    await counter.begun()
    others = [lane.submit(number) for number in range(3)]
    assert len(counter.batches) == 1
    counter.gate.set()
    assert await first == "did first"
    await asyncio.gather(*others)
    assert counter.batches == [[("first",)], [(0,), (1,), (2,)]]


async def test_a_lane_that_was_idle_runs_again(lane: Lane, counter: Counter) -> None:
    for number in range(3):
        assert await lane.submit(number) == f"did {number}"
    assert len(counter.batches) == 3


async def test_a_batch_has_a_limited_number_of_commands(lane: Lane, counter: Counter) -> None:
    await asyncio.gather(*[lane.submit(number) for number in range(2 * MAX_BATCH + 1)])
    assert [len(batch) for batch in counter.batches] == [MAX_BATCH, MAX_BATCH, 1]
    assert [command for batch in counter.batches for command in batch] == [(n,) for n in range(2 * MAX_BATCH + 1)]


async def test_a_batch_has_a_limited_number_of_bytes(lane: Lane, counter: Counter) -> None:
    third = MAX_BYTES // 3
    await asyncio.gather(*[lane.submit(number, size=third) for number in range(7)])
    assert [len(batch) for batch in counter.batches] == [3, 3, 1]


async def test_a_command_larger_than_a_batch_goes_alone(lane: Lane, counter: Counter) -> None:
    await asyncio.gather(lane.submit(1), lane.submit(2, size=3 * MAX_BYTES), lane.submit(3))
    assert counter.batches == [[(1,)], [(2,)], [(3,)]]


async def test_an_error_in_the_place_of_a_result_is_that_commands_own(lane: Lane) -> None:
    found = await lane.gather(("GET",), ("BAD",), ("SET",))
    assert [found[0], found[2]] == ["did GET", "did SET"]
    assert isinstance(found[1], BackendUnavailable)
    with pytest.raises(BackendUnavailable, match="this one alone"):
        demand(found[1])
    assert demand(found[0]) == "did GET"


async def test_a_batch_that_fails_fails_what_waits_behind_it(lane: Lane, counter: Counter) -> None:
    counter.gate.clear()
    counter.failure = BackendUnavailable("frozen")
    first = lane.submit(1)
    await counter.begun()
    behind = [lane.submit(number) for number in range(2 * MAX_BATCH)]
    counter.gate.set()
    found = await asyncio.gather(first, *behind, return_exceptions=True)
    assert {str(each) for each in found} == {"the backend is unavailable: frozen"}
    assert len(counter.batches) == 1


async def test_what_is_submitted_after_a_failure_is_run(lane: Lane, counter: Counter) -> None:
    counter.failure = BackendUnavailable("frozen")
    with pytest.raises(BackendUnavailable):
        await lane.submit(1)
    assert await lane.submit(2) == "did 2"


async def test_an_error_that_nobody_expects_leaves_nobody_waiting(counter: Counter) -> None:
    loop = asyncio.get_running_loop()
    heard: list[object] = []
    loop.set_exception_handler(lambda _, context: heard.append(context.get("exception")))
    lane = Lane(counter.execute)
    counter.failure = ZeroDivisionError("oops")
    with pytest.raises(BackendUnavailable, match="oops"):
        await lane.submit(1)
    assert await lane.submit(2) == "did 2"
    gc.collect()
    assert [type(error) for error in heard] == [ZeroDivisionError]
    loop.set_exception_handler(None)
    await lane.close()


async def test_a_caller_that_goes_away_disturbs_no_other(lane: Lane, counter: Counter) -> None:
    counter.gate.clear()
    running = asyncio.ensure_future(_await(lane.submit("running")))
    await counter.begun()
    waiting = [asyncio.ensure_future(_await(lane.submit(number))) for number in range(3)]
    await asyncio.sleep(0)
    running.cancel()
    waiting[1].cancel()
    counter.gate.set()
    found = await asyncio.gather(running, *waiting, return_exceptions=True)
    assert [type(each).__name__ for each in found] == ["CancelledError", "str", "CancelledError", "str"]
    assert counter.batches[1:] == [[(0,), (1,), (2,)]], "a command that was submitted is run"


async def test_callers_that_go_away_before_a_failure_are_no_trouble(lane: Lane, counter: Counter) -> None:
    counter.gate.clear()
    counter.failure = BackendUnavailable("frozen")
    task = asyncio.ensure_future(lane.gather((1,), (2,)))
    await counter.begun()
    task.cancel()
    counter.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await lane.submit(3) == "did 3"


async def test_closing_gives_up_what_runs_and_what_waits(lane: Lane, counter: Counter) -> None:
    counter.gate.clear()
    running = lane.submit(1)
    await counter.begun()
    waiting = lane.submit(2)
    async with asyncio.timeout(DEADLINE):
        await lane.close()
    for future in (running, waiting):
        with pytest.raises(BackendUnavailable):
            await future
    assert counter.running == 0


async def test_closing_before_the_first_batch_has_begun_leaves_nobody_waiting(lane: Lane, counter: Counter) -> None:
    future = lane.submit(1)
    await lane.close()
    with pytest.raises(BackendUnavailable, match="the server is ending"):
        await future
    assert counter.batches == []


async def test_after_the_end_nothing_is_run_and_nobody_waits(lane: Lane, counter: Counter) -> None:
    await lane.submit(1)
    await lane.close()
    await lane.close()
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(BackendUnavailable, match="the server is ending"):
            await lane.submit(2)
    assert counter.batches == [[(1,)]]


async def _await(future: asyncio.Future[Any]) -> Any:
    return await future

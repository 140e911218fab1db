"""Commands to the backend, one batch after another."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from primacron.cluster.errors import BackendUnavailable
from primacron.cluster.redis.pipeline import MAX_BATCH, MAX_BYTES, Command, CommandPipeline, demand

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
async def pipeline(counter: Counter, anyio_backend: object) -> AsyncIterator[CommandPipeline]:
    pipeline = CommandPipeline(counter.execute)
    yield pipeline
    await pipeline.close()


async def test_a_command_returns_its_result(pipeline: CommandPipeline, counter: Counter) -> None:
    assert await pipeline.submit("GET", "key", 1) == "did GET"
    assert counter.batches == [[("GET", "key", 1)]]


async def test_what_is_submitted_in_one_tick_is_one_batch_in_order(pipeline: CommandPipeline, counter: Counter) -> None:
    futures = [pipeline.submit(number) for number in range(100)]
    assert await asyncio.gather(*futures) == [f"did {number}" for number in range(100)]
    assert counter.batches == [[(number,) for number in range(100)]]


async def test_what_is_submitted_while_a_batch_runs_goes_with_the_next_one(
    pipeline: CommandPipeline, counter: Counter
) -> None:
    counter.gate.clear()
    first = pipeline.submit("first")
    await counter.begun()
    others = [pipeline.submit(number) for number in range(3)]
    assert len(counter.batches) == 1
    counter.gate.set()
    assert await first == "did first"
    await asyncio.gather(*others)
    assert counter.batches == [[("first",)], [(0,), (1,), (2,)]]


async def test_a_pipeline_that_was_idle_runs_again(pipeline: CommandPipeline, counter: Counter) -> None:
    for number in range(3):
        assert await pipeline.submit(number) == f"did {number}"
    assert len(counter.batches) == 3


async def test_a_batch_has_a_limited_number_of_commands(pipeline: CommandPipeline, counter: Counter) -> None:
    await asyncio.gather(*[pipeline.submit(number) for number in range(2 * MAX_BATCH + 1)])
    assert [len(batch) for batch in counter.batches] == [MAX_BATCH, MAX_BATCH, 1]
    assert [command for batch in counter.batches for command in batch] == [(n,) for n in range(2 * MAX_BATCH + 1)]


async def test_a_batch_has_a_limited_number_of_bytes(pipeline: CommandPipeline, counter: Counter) -> None:
    third = MAX_BYTES // 3
    await asyncio.gather(*[pipeline.submit(number, size=third) for number in range(7)])
    assert [len(batch) for batch in counter.batches] == [3, 3, 1]


async def test_a_command_larger_than_a_batch_goes_alone(pipeline: CommandPipeline, counter: Counter) -> None:
    await asyncio.gather(pipeline.submit(1), pipeline.submit(2, size=3 * MAX_BYTES), pipeline.submit(3))
    assert counter.batches == [[(1,)], [(2,)], [(3,)]]


async def test_an_error_in_the_place_of_a_result_is_that_commands_own(pipeline: CommandPipeline) -> None:
    found = await pipeline.gather(("GET",), ("BAD",), ("SET",))
    assert [found[0], found[2]] == ["did GET", "did SET"]
    assert isinstance(found[1], BackendUnavailable)
    with pytest.raises(BackendUnavailable, match="this one alone"):
        demand(found[1])
    assert demand(found[0]) == "did GET"


async def test_a_batch_that_fails_fails_what_waits_behind_it(pipeline: CommandPipeline, counter: Counter) -> None:
    counter.gate.clear()
    counter.failure = BackendUnavailable("frozen")
    first = pipeline.submit(1)
    await counter.begun()
    behind = [pipeline.submit(number) for number in range(2 * MAX_BATCH)]
    counter.gate.set()
    found = await asyncio.gather(first, *behind, return_exceptions=True)
    assert {str(each) for each in found} == {"the backend is unavailable: frozen"}
    assert len(counter.batches) == 1


async def test_what_is_submitted_after_a_failure_is_run(pipeline: CommandPipeline, counter: Counter) -> None:
    counter.failure = BackendUnavailable("frozen")
    with pytest.raises(BackendUnavailable):
        await pipeline.submit(1)
    assert await pipeline.submit(2) == "did 2"


async def test_an_error_that_nobody_expects_leaves_nobody_waiting(counter: Counter) -> None:
    loop = asyncio.get_running_loop()
    heard: list[object] = []
    loop.set_exception_handler(lambda _, context: heard.append(context.get("exception")))
    pipeline = CommandPipeline(counter.execute)
    counter.failure = ZeroDivisionError("oops")
    with pytest.raises(BackendUnavailable, match="oops"):
        await pipeline.submit(1)
    assert await pipeline.submit(2) == "did 2"
    gc.collect()
    assert [type(error) for error in heard] == [ZeroDivisionError]
    loop.set_exception_handler(None)
    await pipeline.close()


async def test_a_caller_that_goes_away_disturbs_no_other(pipeline: CommandPipeline, counter: Counter) -> None:
    counter.gate.clear()
    running = asyncio.ensure_future(_await(pipeline.submit("running")))
    await counter.begun()
    waiting = [asyncio.ensure_future(_await(pipeline.submit(number))) for number in range(3)]
    await asyncio.sleep(0)
    running.cancel()
    waiting[1].cancel()
    counter.gate.set()
    found = await asyncio.gather(running, *waiting, return_exceptions=True)
    assert [type(each).__name__ for each in found] == ["CancelledError", "str", "CancelledError", "str"]
    assert counter.batches[1:] == [[(0,), (1,), (2,)]], "a command that was submitted is run"


async def test_callers_that_go_away_before_a_failure_are_no_trouble(
    pipeline: CommandPipeline, counter: Counter
) -> None:
    counter.gate.clear()
    counter.failure = BackendUnavailable("frozen")
    task = asyncio.ensure_future(pipeline.gather((1,), (2,)))
    await counter.begun()
    task.cancel()
    counter.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await pipeline.submit(3) == "did 3"


async def test_closing_gives_up_what_runs_and_what_waits(pipeline: CommandPipeline, counter: Counter) -> None:
    counter.gate.clear()
    running = pipeline.submit(1)
    await counter.begun()
    waiting = pipeline.submit(2)
    async with asyncio.timeout(DEADLINE):
        await pipeline.close()
    for future in (running, waiting):
        with pytest.raises(BackendUnavailable):
            await future
    assert counter.running == 0


async def test_closing_before_the_first_batch_has_begun_leaves_nobody_waiting(
    pipeline: CommandPipeline, counter: Counter
) -> None:
    future = pipeline.submit(1)
    await pipeline.close()
    with pytest.raises(BackendUnavailable, match="the server is ending"):
        await future
    assert counter.batches == []


async def test_after_the_end_nothing_is_run_and_nobody_waits(pipeline: CommandPipeline, counter: Counter) -> None:
    await pipeline.submit(1)
    await pipeline.close()
    await pipeline.close()
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(BackendUnavailable, match="the server is ending"):
            await pipeline.submit(2)
    assert counter.batches == [[(1,)]]


async def _await(future: asyncio.Future[Any]) -> Any:
    return await future

"""Coroutines without a task: what handlers may rely on in their first step and after it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from primacron.sessions.eager import Eager

color: contextvars.ContextVar[str] = contextvars.ContextVar("color", default="none")


@pytest.fixture(params=["uvloop", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@pytest.fixture
async def eager(anyio_backend: object) -> AsyncIterator[Eager]:
    runner = Eager(asyncio.get_running_loop())
    yield runner
    runner.close()


async def start_outside_tasks(eager: Eager, work: Any) -> asyncio.Task[Any] | None:
    """Start a coroutine as the server does: in a callback of the event loop, where no task is current."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[asyncio.Task[Any] | None] = loop.create_future()

    def start() -> None:
        try:
            outcome.set_result(eager.start(work))
        except BaseException as error:
            outcome.set_exception(error)

    loop.call_soon(start)
    return await outcome


async def test_a_coroutine_that_does_not_wait_leaves_no_task(eager: Eager) -> None:
    async def work() -> int:
        return 42

    assert await start_outside_tasks(eager, work()) is None
    assert eager.value == 42


async def test_what_the_first_step_raises_is_raised_by_start(eager: Eager) -> None:
    async def work() -> None:
        raise LookupError("first")

    with pytest.raises(LookupError, match="first"):
        await start_outside_tasks(eager, work())


async def test_a_coroutine_that_waits_goes_on_as_a_task(eager: Eager) -> None:
    async def work() -> str:
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        return "done"

    task = await start_outside_tasks(eager, work())
    assert task is not None
    assert await task == "done"


async def test_a_coroutine_started_inside_of_a_task_has_a_task_of_its_own_and_gives_the_others_back(
    eager: Eager,
) -> None:
    seen: list[asyncio.Task[Any] | None] = []

    async def work(*, waits: bool) -> str:
        seen.append(asyncio.current_task())
        if waits:
            await asyncio.sleep(0)
            seen.append(asyncio.current_task())
        return "done"

    caller = asyncio.current_task()
    assert eager.start(work(waits=False)) is None
    assert eager.value == "done"
    assert asyncio.current_task() is caller
    task = eager.start(work(waits=True))
    assert asyncio.current_task() is caller
    assert task is not None
    assert await task == "done"
    assert caller not in seen
    assert seen[1:] == [task, task]


async def test_a_coroutine_started_by_the_first_step_of_another_shares_no_task_with_it(eager: Eager) -> None:
    async def inner() -> asyncio.Task[Any] | None:
        before = asyncio.current_task()
        await asyncio.sleep(0.01)
        assert asyncio.current_task() is before
        return before

    async def outer() -> tuple[asyncio.Task[Any] | None, Any]:
        before = asyncio.current_task()
        started = eager.start(inner())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.sleep(10)
        assert asyncio.current_task() is before
        assert started is not None
        return before, await started

    for start in (eager.start, lambda work: start_outside_tasks(eager, work)):
        task = start(outer())
        if asyncio.iscoroutine(task):
            task = await task
        assert task is not None
        before, of_inner = await task
        assert before is task
        assert of_inner is not task


async def test_the_current_task_is_the_same_before_and_after_waiting(eager: Eager) -> None:
    async def work() -> bool:
        before = asyncio.current_task()
        await asyncio.sleep(0)
        return before is not None and before is asyncio.current_task()

    task = await start_outside_tasks(eager, work())
    assert task is not None
    assert await task


async def test_each_of_several_that_wait_has_its_own_task(eager: Eager) -> None:
    gate = asyncio.Event()

    async def work() -> asyncio.Task[Any] | None:
        await gate.wait()
        return asyncio.current_task()

    tasks = [await start_outside_tasks(eager, work()) for _ in range(5)]
    gate.set()
    assert [await task for task in tasks if task is not None] == tasks
    assert len(set(tasks)) == 5


async def test_a_timeout_that_begins_in_the_first_step_cancels_what_waits(eager: Eager) -> None:
    async def work() -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            return "timed out"
        return "never"

    task = await start_outside_tasks(eager, work())
    assert task is not None
    assert await task == "timed out"


async def test_a_timeout_of_zero_cancels_what_waits(eager: Eager) -> None:
    async def work() -> str:
        try:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        except TimeoutError:
            return "timed out"
        return "never"

    task = await start_outside_tasks(eager, work())
    assert task is not None
    assert await task == "timed out"


async def test_a_task_group_works(eager: Eager) -> None:
    async def double(number: int) -> int:
        await asyncio.sleep(0)
        return number * 2

    async def work() -> int:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(double(number)) for number in (1, 2, 3)]
        return sum(task.result() for task in tasks)

    task = await start_outside_tasks(eager, work())
    assert task is not None
    assert await task == 12


async def test_a_task_group_cancels_its_parent_when_a_child_fails(eager: Eager) -> None:
    async def fail() -> None:
        raise LookupError("child")

    async def work() -> str:
        outcome = "never"
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
                await asyncio.Event().wait()
        except* LookupError:
            outcome = "child failed"
        return outcome

    task = await start_outside_tasks(eager, work())
    assert task is not None
    assert await task == "child failed"


async def test_httpx_works(eager: Eager) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]

        async def work() -> str:
            async with httpx.AsyncClient() as client:
                return (await client.get(f"http://127.0.0.1:{port}/")).text

        task = await start_outside_tasks(eager, work())
        assert task is not None
        assert await task == "hi"


async def test_context_variables_last_over_a_wait_and_do_not_leak(eager: Eager) -> None:
    async def paint(name: str) -> str:
        before = color.get()
        color.set(name)
        await asyncio.sleep(0)
        return f"{before}-{color.get()}"

    async def paint_at_once() -> None:
        color.set("blue")

    assert await start_outside_tasks(eager, paint_at_once()) is None
    red, green = await start_outside_tasks(eager, paint("red")), await start_outside_tasks(eager, paint("green"))
    assert red is not None
    assert green is not None
    assert [await red, await green, color.get()] == ["none-red", "none-green", "none"]


async def test_cancelling_the_task_reaches_the_coroutine_where_it_waits(eager: Eager) -> None:
    inner = asyncio.get_running_loop().create_future()

    async def work() -> str:
        try:
            await inner
        except asyncio.CancelledError:
            return "cleaned up"
        return "never"

    task = await start_outside_tasks(eager, work())
    assert task is not None
    task.cancel()
    assert await task == "cleaned up"
    assert inner.cancelled()


async def test_cancelling_later_reaches_the_coroutine_too(eager: Eager) -> None:
    waiting = asyncio.Event()

    async def work() -> None:
        await asyncio.sleep(0)
        waiting.set()
        await asyncio.Event().wait()

    task = await start_outside_tasks(eager, work())
    assert task is not None
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_coroutine_that_cancels_itself_harms_no_later_one(eager: Eager) -> None:
    async def cancel_itself() -> None:
        current = asyncio.current_task()
        assert current is not None
        current.cancel()

    async def cancel_itself_and_fail() -> None:
        await cancel_itself()
        raise LookupError

    async def work() -> str:
        await asyncio.sleep(0)
        return "done"

    with pytest.raises(asyncio.CancelledError):
        await start_outside_tasks(eager, cancel_itself())
    with pytest.raises(LookupError):
        await start_outside_tasks(eager, cancel_itself_and_fail())
    for _ in range(3):
        task = await start_outside_tasks(eager, work())
        assert task is not None
        assert await task == "done"


async def test_an_exception_after_a_wait_is_the_tasks(eager: Eager) -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        raise LookupError("later")

    task = await start_outside_tasks(eager, work())
    assert task is not None
    with pytest.raises(LookupError, match="later"):
        await task


async def test_starting_inside_a_task_works(eager: Eager) -> None:
    async def work() -> str:
        await asyncio.sleep(0)
        return "nested"

    task = eager.start(work())
    assert task is not None
    assert await task == "nested"


async def test_an_awaited_task_and_gather_work_in_the_first_step(eager: Eager) -> None:
    async def number(value: int) -> int:
        await asyncio.sleep(0)
        return value

    async def work() -> list[int]:
        child = asyncio.create_task(number(1))
        return [await child, *await asyncio.gather(number(2), number(3))]

    task = await start_outside_tasks(eager, work())
    assert task is not None
    assert await task == [1, 2, 3]


@pytest.mark.parametrize("waits", [False, True])
async def test_what_is_begun_in_a_context_of_its_own_stays_in_it(eager: Eager, waits: bool) -> None:
    seen: list[str] = []

    async def work() -> None:
        seen.append(color.get())
        color.set("red")
        if waits:
            await asyncio.sleep(0)
        seen.append(color.get())

    def begin() -> asyncio.Task[Any] | None:
        color.set("blue")
        return eager.start(work(), own)

    own = contextvars.copy_context()
    task = own.run(begin)
    assert (task is not None) is waits
    if task is not None:
        await task
    assert seen == ["blue", "red"]
    assert color.get() == "none"


async def test_two_that_are_begun_one_after_the_other_see_nothing_of_each_other(eager: Eager) -> None:
    seen: dict[str, str] = {}

    async def work(name: str) -> None:
        color.set(name)
        await asyncio.sleep(0)
        seen[name] = color.get()

    tasks = []
    for name in ("red", "blue"):
        own = contextvars.copy_context()
        tasks.append(own.run(eager.start, work(name), own))
    await asyncio.gather(*[task for task in tasks if task is not None])
    assert seen == {"red": "red", "blue": "blue"}

"""What waits for the handler of a session: one job after another, and when there are too many."""

from __future__ import annotations

import asyncio

import pytest

from primacron.sessions.inbox import CALL_FACTOR, MAX_BYTES, Inbox, Job
from primacron.turns import Turns


class Work:
    """Jobs that end when they are told, and the order in which they began and ended."""

    def __init__(self, limit: int = 4) -> None:
        self.steps: list[str] = []
        self.relieved = 0
        self.gates: dict[str, asyncio.Event] = {}
        self.inbox = Inbox(limit, self._relieve, Turns(asyncio.get_running_loop()))

    def _relieve(self) -> None:
        self.relieved += 1

    async def _run(self, name: str) -> None:
        self.steps.append(f"{name} begins")
        await self.gates[name].wait()
        self.steps.append(f"{name} ends")

    def start(self, name: str) -> asyncio.Task[None]:
        """Begin a job that waits."""
        self.gates[name] = asyncio.Event()
        return asyncio.create_task(self._run(name))

    def waiting(self, name: str) -> Job:
        """Return a job that waits, once it is begun."""
        return lambda: self.start(name)

    def short(self, name: str) -> Job:
        """Return a job that is done at once."""
        return lambda: self.steps.append(name)

    async def end(self, name: str) -> None:
        """Let a job end, and what comes after it begin."""
        self.gates[name].set()
        for _ in range(4):
            await asyncio.sleep(0)


async def test_jobs_run_one_after_another_behind_the_one_that_runs() -> None:
    work = Work()
    work.inbox.occupy(work.start("first"))
    for job in (work.short("a"), work.waiting("second"), work.short("b"), work.short("c")):
        work.inbox.put(job, 1)
    await asyncio.sleep(0)
    assert work.steps == ["first begins"]
    await work.end("first")
    assert work.steps == ["first begins", "first ends", "a", "second begins"]
    await work.end("second")
    assert work.steps[4:] == ["second ends", "b", "c"]
    assert work.inbox.is_idle


async def test_a_job_that_is_put_while_others_run_keeps_its_place() -> None:
    work = Work()
    work.inbox.occupy(work.start("first"))

    def put() -> None:
        work.steps.append("a")
        work.inbox.put(work.short("last"), 1)

    work.inbox.put(put, 1)
    work.inbox.put(work.short("b"), 1)
    await work.end("first")
    assert work.steps[2:] == ["a", "b", "last"]


@pytest.mark.parametrize("how", ["raises", "is cancelled"])
async def test_a_handler_that_fails_lets_the_next_one_run(how: str) -> None:
    work = Work()

    async def fail() -> None:
        if how == "raises":
            raise LookupError
        await asyncio.Event().wait()

    task = asyncio.create_task(fail())
    work.inbox.occupy(task)
    work.inbox.put(work.short("next"), 1)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert (how == "raises") is (not task.cancelled() and task.exception() is not None)
    await asyncio.sleep(0)
    assert work.steps == ["next"]


async def test_it_is_full_by_the_number_of_jobs_or_by_their_bytes() -> None:
    work = Work(limit=4)
    for _ in range(3):
        work.inbox.put(work.short(""), 10)
    assert not work.inbox.is_full()
    work.inbox.put(work.short(""), 10)
    assert work.inbox.is_full()
    assert not work.inbox.is_full(CALL_FACTOR)
    for _ in range(4 * CALL_FACTOR - 4):
        work.inbox.put(work.short(""), 10)
    assert work.inbox.is_full(CALL_FACTOR)

    heavy = Work(limit=4)
    heavy.inbox.put(heavy.short(""), MAX_BYTES - 1)
    assert not heavy.inbox.is_full()
    heavy.inbox.put(heavy.short(""), 1)
    assert heavy.inbox.is_full()
    assert not heavy.inbox.is_full(CALL_FACTOR)
    heavy.inbox.put(heavy.short(""), MAX_BYTES * (CALL_FACTOR - 1))
    assert heavy.inbox.is_full(CALL_FACTOR)


async def test_it_is_low_again_at_half_of_what_makes_it_full() -> None:
    work = Work(limit=4)
    work.inbox.occupy(work.start("first"))
    for index in range(4):
        work.inbox.put(work.waiting(f"job {index}"), 1)
    low = []
    for name in ("first", "job 0", "job 1", "job 2"):
        await work.end(name)
        low.append((work.relieved, work.inbox.is_low))
    # Of the four that waited three are left behind the first that began, and so on.
    assert low == [(1, False), (2, True), (3, True), (4, True)]

    heavy = Work(limit=100)
    heavy.inbox.occupy(heavy.start("first"))
    heavy.inbox.put(heavy.waiting("large"), MAX_BYTES)
    heavy.inbox.put(heavy.waiting("small"), MAX_BYTES // 2 + 1)
    await heavy.end("first")
    assert not heavy.inbox.is_low
    await heavy.end("large")
    assert heavy.inbox.is_low
    await heavy.end("small")
    assert heavy.inbox.is_idle


async def test_it_is_idle_when_nothing_runs_and_nothing_waits() -> None:
    work = Work()
    assert work.inbox.is_idle
    work.inbox.occupy(work.start("first"))
    assert not work.inbox.is_idle
    work.inbox.put(work.short("a"), 1)
    await work.end("first")
    assert work.inbox.is_idle
    assert work.relieved == 1
    work.inbox.put(work.short("b"), 1)
    assert not work.inbox.is_idle

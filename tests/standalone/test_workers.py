"""The process that watches over workers, of which some hang, die, or do not listen to reason."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.program import ROOT, Program, running

PROGRAM = ROOT / "tests" / "standalone" / "programs" / "worker.py"
WELL = "well"
#: Seconds that a process may need to start on a busy machine.
START = 15.0


class Supervised:
    """A program with workers, and the folder in which each has left its number."""

    def __init__(self, program: Program, folder: Path) -> None:
        self.program = program
        self._folder = folder

    @property
    def starts(self) -> int:
        """How many workers were started so far."""
        return len([*self._folder.iterdir()])

    async def until_started(self, count: int) -> None:
        async with asyncio.timeout(START):
            while self.starts < count:
                await asyncio.sleep(0.01)

    @property
    def workers(self) -> list[int]:
        """The workers that there are, the oldest first."""
        supervisor = self.program.pid
        children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text()
        return [int(pid) for pid in children.split()]


@asynccontextmanager
async def supervised(
    folder: Path, count: int, moods: list[str], *, begins: bool = True, **settings: float
) -> AsyncIterator[Supervised]:
    """Run a program whose workers have moods in the order of their starts, the last mood for all later ones."""
    given = json.dumps({"count": count, "moods": moods, **settings})
    async with running(PROGRAM, given, str(folder)) as program:
        if begins:
            await program.wait_for("listening on an address\na worker; workers ")
        yield Supervised(program, folder)
        program.send_signal(signal.SIGTERM)
        with contextlib.suppress(AssertionError):  # it has ended, and has said so before
            await program.wait_for("ending")
        await program.stop()  # a second signal: some would not end by the first one


async def test_a_worker_that_hangs_at_its_start_keeps_no_other_from_being_replaced(
    tmp_path: Path, anyio_backend: object
) -> None:
    async with supervised(tmp_path, 3, [WELL, WELL, WELL, "hangs", WELL]) as started:
        first, second, third = started.workers
        os.kill(first, signal.SIGKILL)
        await started.until_started(4)
        os.kill(second, signal.SIGKILL)
        await started.program.wait_for(rf"worker {second} ended by itself")
        await started.until_started(5)
        os.kill(third, signal.SIGKILL)
        await started.program.wait_for(rf"worker {third} ended by itself")
        await started.until_started(6)


async def test_a_worker_that_does_not_begin_in_time_is_ended_and_replaced(
    tmp_path: Path, anyio_backend: object
) -> None:
    async with supervised(tmp_path, 2, [WELL, WELL, "stubborn", WELL], begin_timeout=3.0) as started:
        os.kill(started.workers[0], signal.SIGKILL)
        late = (await started.program.wait_for(r"worker (\d+) did not begin within 3 seconds"))[1]
        await started.program.wait_for(rf"worker {late} ended by itself \(-9\); another one is started")
        await started.until_started(4)
        assert int(late) not in started.workers


async def test_a_worker_that_dies_again_and_again_is_started_less_and_less_often(
    tmp_path: Path, anyio_backend: object
) -> None:
    async with supervised(tmp_path, 1, [WELL, "dies"]) as started:
        os.kill(started.workers[0], signal.SIGKILL)
        await started.until_started(6)
        ends = len(re.findall("ended by itself", started.program.printed))
        # The fifth in a row is followed by a pause of at least 1.6 seconds.
        while ends < 6:
            await started.program.wait_for(rf"(?s)(ended by itself.*){{{ends + 1}}}")
            ends += 1
        began = time.monotonic()
        await started.until_started(7)
        assert time.monotonic() - began >= 1.5


@pytest.mark.parametrize("mood", ["hangs", "stubborn"])
async def test_sigterm_is_heard_while_a_successor_is_waited_for(
    mood: str, tmp_path: Path, anyio_backend: object
) -> None:
    async with supervised(tmp_path, 2, [WELL, WELL, mood]) as started:
        started.program.send_signal(signal.SIGHUP)
        await started.until_started(3)
        pids = started.workers
        began = time.monotonic()
        assert await started.program.stop() == 0
        assert time.monotonic() - began < 10.0 + 3.0
        assert not any(map(is_there, pids))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_is_heard_while_the_first_workers_begin(
    number: int, tmp_path: Path, anyio_backend: object
) -> None:
    async with supervised(tmp_path, 2, ["hangs"], begins=False) as started:
        await started.until_started(2)
        pids = started.workers
        began = time.monotonic()
        assert await started.program.stop(number) == 0
        assert time.monotonic() - began < 5.0
        assert not any(map(is_there, pids))


async def test_a_second_signal_ends_workers_that_begin_as_well(tmp_path: Path, anyio_backend: object) -> None:
    async with supervised(tmp_path, 1, [WELL, "stubborn"]) as started:
        started.program.send_signal(signal.SIGHUP)
        await started.until_started(2)
        started.program.send_signal(signal.SIGTERM)
        await started.program.wait_for("ending 1 workers")
        began = time.monotonic()
        assert await started.program.stop() == 0
        assert time.monotonic() - began < 5.0


async def test_a_successor_that_does_not_begin_leaves_the_others_as_they_are(
    tmp_path: Path, anyio_backend: object
) -> None:
    async with supervised(tmp_path, 2, [WELL, WELL, "stubborn", WELL], begin_timeout=6.0) as started:
        before = started.workers
        started.program.send_signal(signal.SIGHUP)
        await started.program.wait_for("a new worker did not begin; the others go on")
        started.program.send_signal(signal.SIGHUP)
        await started.program.wait_for("new workers")
        assert not {*before} & {*started.workers}
        assert len(started.workers) == 2


async def test_the_last_of_many_workers_is_replaced(tmp_path: Path, anyio_backend: object) -> None:
    count = (os.cpu_count() or 1) + 8
    async with supervised(tmp_path, count, [WELL]) as started:
        last = started.workers[-1]
        os.kill(last, signal.SIGKILL)
        await started.program.wait_for(rf"worker {last} ended by itself \(-9\); another one is started")
        await started.until_started(count + 1)


def is_there(pid: int) -> bool:
    """Tell whether a process lives."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

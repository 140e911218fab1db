"""Several processes on one port, started, replaced and ended as an operator does it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from tests.cluster.nodes import PROGRAM, NodeProcess
from tests.cluster.traffic import Talker, Traffic
from tests.support.program import running
from tests.support.redis import RedisProcess

WORKERS: Final = 3
DEADLINE: Final = 30.0
#: Seconds between two requests.
PACE: Final = 0.01
#: Seconds that handlers which run have when the server ends in order.
PATIENCE: Final = 4.0


class Workers(NodeProcess):
    """A program with several workers."""

    @property
    def pids(self) -> set[int]:
        """The workers that there are."""
        supervisor = self.program.pid
        return {int(pid) for pid in Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()}

    async def states(self) -> dict[int, dict[str, Any]]:
        """Return the state of each worker by process; whose turn it is comes by chance."""
        found: dict[int, dict[str, Any]] = {}
        async with asyncio.timeout(DEADLINE):
            while not found.keys() >= self.pids:
                state = await self.state()
                found[state["pid"]] = state
        return {pid: found[pid] for pid in self.pids}

    async def until_known(self) -> None:
        """Wait until all workers are there, and each knows all of them."""
        async with asyncio.timeout(DEADLINE):
            while True:
                states = (await self.states()).values()
                nodes = {state["node"] for state in states}
                if len(nodes) == WORKERS and all(
                    {*state["nodes"]} >= nodes and not state["unready"] for state in states
                ):
                    return
                await asyncio.sleep(0.05)


@asynccontextmanager
async def workers(redis: RedisProcess, namespace: str) -> AsyncIterator[Workers]:
    """Run a program with three workers."""
    given = {"redis": {"url": redis.url}, "options": {"namespace": namespace}, "port": 0, "workers": WORKERS}
    async with running(*PROGRAM, json.dumps(given)) as program:
        found = await program.wait_for(r"listening on http://127\.0\.0\.1:(\d+)/stream/\n.*; workers \d+, \d+, \d+\n")
        started = Workers(program, int(found[1]))
        try:
            await started.until_known()
            yield started
        finally:
            await started.client.close()


@asynccontextmanager
async def clients(started: Workers, count: int, name: str) -> AsyncIterator[Traffic]:
    """Connect clients, which the kernel spreads over the workers, and let each send to the next one."""
    async with AsyncExitStack() as stack:
        talkers = [await Talker.connect(started, f"{name}{number}") for number in range(count)]
        for talker in talkers:
            stack.push_async_callback(talker.close)
        traffic = Traffic(talkers, 1)
        traffic.begin()
        await traffic.until_accepted()
        yield traffic


def is_there(pid: int) -> bool:
    """Tell whether a process lives."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def until_ended(pids: set[int]) -> None:
    """Wait until processes have ended."""
    async with asyncio.timeout(DEADLINE):
        while any(map(is_there, pids)):
            await asyncio.sleep(0.01)


async def knock(started: Workers) -> int:
    """
    Return the status of an answer.

    As browsers do: once more if the connection was closed before the request had come. No connection is refused.
    """
    try:
        return (await started.client.fetch("GET", "/primacron/livez")).status
    except (ConnectionResetError, BrokenPipeError, asyncio.IncompleteReadError):
        return (await started.client.fetch("GET", "/primacron/livez")).status


async def test_workers_are_one_server_and_are_replaced_while_clients_come(
    redis_process: RedisProcess, namespace: str, anyio_backend: object
) -> None:
    async with workers(redis_process, namespace) as started, clients(started, 12, "early") as early:
        states = await started.states()
        assert sum(state["sessions"] for state in states.values()) == 12
        victim = max(states, key=lambda pid: states[pid]["sessions"])

        # One that was killed.
        os.kill(victim, signal.SIGKILL)
        await started.program.wait_for(rf"worker {victim} ended by itself \(-9\); another one is started")
        await started.until_known()
        assert victim not in started.pids
        assert len(early.closed) == states[victim]["sessions"]
        await early.until_accepted()

        # All, one after another; whoever knocks meanwhile is let in.
        before = started.pids
        started.program.send_signal(signal.SIGHUP)
        async with asyncio.TaskGroup() as group:
            renewed = group.create_task(started.program.wait_for(r"new workers ((?:\d+, )*\d+)\n"))
            while not renewed.done():
                assert await knock(started) == 200
                await asyncio.sleep(PACE)
        assert {int(pid) for pid in renewed.result()[1].split(", ")} == started.pids
        assert not before & started.pids
        await early.stop()
        await early.check()
        assert {*early.closed.values()} > {"server shutdown"}  # and how a killed one leaves

        # The end: all are told, and the program ends in order.
        await started.until_known()
        async with clients(started, 6, "late") as late:
            last = started.pids
            assert await started.program.stop() == 0
            await asyncio.gather(*(talker.until_closed() for talker in late.talkers))
            assert {*late.closed.values()} == {"server shutdown"}
            assert not any(map(is_there, last))


async def test_a_second_sigterm_ends_at_once(
    redis_process: RedisProcess, namespace: str, anyio_backend: object
) -> None:
    async with workers(redis_process, namespace) as started:
        for number in range(6):
            client = await started.client.connect(f"account=hanging{number}")
            await client.emit("hang")
            assert (await client.receive())["event"] == "hanging"
        pids = started.pids
        started.program.send_signal(signal.SIGTERM)
        await started.program.wait_for("ending 3 workers, 10 seconds at most")
        async with asyncio.timeout(PATIENCE):
            assert await started.program.stop() == 0
        assert not any(map(is_there, pids))


async def test_an_interrupt_from_a_terminal_which_all_processes_get_is_one_wish(
    redis_process: RedisProcess, namespace: str, anyio_backend: object
) -> None:
    async with workers(redis_process, namespace) as started:
        for number in range(6):
            client = await started.client.connect(f"account=resting{number}")
            await client.emit("rest", 1.0)
            assert (await client.receive())["event"] == "resting"
        for pid in (*started.pids, started.program.pid):
            os.kill(pid, signal.SIGINT)
        assert await started.program.wait() == 0
        assert started.program.printed.count("rested") == 6


async def test_handlers_in_threads_hold_up_the_end_of_no_worker(
    redis_process: RedisProcess, namespace: str, anyio_backend: object
) -> None:
    async with workers(redis_process, namespace) as started:
        for number in range(6):
            client = await started.client.connect(f"account=sleeping{number}")
            await client.emit("sleep", 60.0)
            assert (await client.receive())["event"] == "sleeping"
        assert await started.program.stop() == 0
        assert started.program.printed.count("ended in order") == WORKERS + 1


async def test_workers_whose_supervisor_was_killed_end_by_themselves(
    redis_process: RedisProcess, namespace: str, anyio_backend: object
) -> None:
    async with workers(redis_process, namespace) as started, clients(started, 6, "client") as orphans:
        pids = started.pids
        os.kill(started.program.pid, signal.SIGKILL)
        await asyncio.gather(*(talker.until_closed() for talker in orphans.talkers))
        assert {*orphans.closed.values()} == {"server shutdown"}
        await until_ended(pids)


async def test_several_workers_want_a_redis(anyio_backend: object) -> None:
    given: dict[str, Any] = {"redis": None, "options": {}, "port": 0, "workers": 2}
    async with running(*PROGRAM, json.dumps(given)) as program:
        assert await program.wait() == 1
        assert "workers" in program.printed
        assert "1 without a Redis: several workers need one to share their sessions" in program.printed


async def test_a_port_that_is_taken_is_told(redis_process: RedisProcess, anyio_backend: object) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        given = {"redis": {"url": redis_process.url}, "options": {}, "port": port, "workers": 2}
        async with running(*PROGRAM, json.dumps(given)) as program:
            assert await program.wait() == 1
            assert re.search(rf"cannot listen on 127\.0\.0\.1:{port}: Address already in use", program.printed)

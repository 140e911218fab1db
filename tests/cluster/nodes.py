"""Servers in separate processes, running ``programs/node.py``, and what they report."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlencode

from tests.support.engine import Client
from tests.support.http import fetch
from tests.support.program import DEADLINE, Program, running

PROGRAM = ("-m", "tests.cluster.programs.node")


class NodeProcess:
    """A server, and a client for its port."""

    def __init__(self, program: Program, port: int) -> None:
        self.program = program
        self.port = port
        self.client = Client(port)

    async def ask(self, path: str, **query: str) -> Any:
        """Return what a page of the server reports."""
        response = await fetch(self.port, "GET", f"{path}?{urlencode(query)}")
        assert response.status == 200, response
        return response.json()

    async def state(self) -> dict[str, Any]:
        """Return what the server has observed."""
        state: dict[str, Any] = await self.ask("/state")
        return state

    def kill(self) -> None:
        """Kill it, as ``kill -9`` does."""
        self.program.send_signal(signal.SIGKILL)

    def freeze(self) -> None:
        """Suspend it."""
        self.program.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume it."""
        self.program.send_signal(signal.SIGCONT)


@asynccontextmanager
async def node_process(place: Mapping[str, Any] | None, **options: Any) -> AsyncIterator[NodeProcess]:
    """Run a server; ``place`` is where its Redis is."""
    given = {"redis": place, "options": options, "port": 0, "workers": 1}
    async with running(*PROGRAM, json.dumps(given)) as program:
        found = await program.wait_for(r"listening on http://127\.0\.0\.1:(\d+)/stream/")
        node = NodeProcess(program, int(found[1]))
        try:
            yield node
        finally:
            await node.client.close()
            program.send_signal(signal.SIGCONT)


@asynccontextmanager
async def node_processes(
    count: int, place: Mapping[str, Any] | None, **options: Any
) -> AsyncIterator[list[NodeProcess]]:
    """Run several servers that know each other."""
    async with AsyncExitStack() as stack:
        entered = [stack.enter_async_context(node_process(place, **options)) for _ in range(count)]
        nodes = [*await asyncio.gather(*entered)]
        async with asyncio.timeout(DEADLINE):
            while not all([await _knows(node, count) for node in nodes]):
                await asyncio.sleep(0.05)
        yield nodes


async def _knows(node: NodeProcess, count: int) -> bool:
    state = await node.state()
    return len(state["nodes"]) == count and not state["unready"]


async def until_link(nodes: Sequence[NodeProcess], *, up: bool, seconds: float) -> None:
    """Wait until all servers report that their link is up, or that it is down."""
    async with asyncio.timeout(seconds):
        while not all([bool((await node.state())["unready"]) is not up for node in nodes]):
            await asyncio.sleep(0.02)

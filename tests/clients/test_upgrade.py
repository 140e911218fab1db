"""What is sent while a connection is upgraded arrives once and in order, whatever the pace."""

from __future__ import annotations

import asyncio

from primacron import Primacron, Session
from primacron.protocol.engine import Phase
from tests.conftest import Serve
from tests.support.node import run_node

COUNT = 1000
CLIENTS = 32


async def test_messages_sent_both_ways_during_the_upgrade_arrive_once_and_in_order(kind: str, serve: Serve) -> None:
    server = Primacron(dialect="raw", data=list, outbox_limit=10_000_000)
    taken: dict[str, list[int]] = {}

    @server.event("message")
    async def take(session: Session, content: str) -> None:
        number = int(content)
        if number % 3 == 0:
            await asyncio.sleep(0)
        numbers = session.data
        numbers.append(number)
        if len(numbers) == COUNT:
            await sent[session]
            session.emit("message", f"taken {COUNT}")

    sent: dict[Session, asyncio.Task[None]] = {}

    @server.on("connection")
    def begin(session: Session) -> None:
        taken[session.query["client"]] = session.data
        sent[session] = session.task(PACES[session.query["pace"]](session))

    client = await serve(server)
    results = await run_node("upgrade.mjs", client.port, COUNT)
    good = {
        "wrong": -1,
        "count": COUNT,
        "transport": "websocket",
        "closed": None,
        "index": 0,
        "before": 0,
        "pace": "",
    }
    assert [{**result, "index": 0, "before": 0, "pace": ""} for result in results] == CLIENTS * [good]
    assert {index: numbers for index, numbers in taken.items() if numbers != list(range(COUNT))} == {}
    assert len(taken) == CLIENTS
    # The upgrade was in the middle of it: some messages came by polling, some by websocket.
    assert all(0 < result["before"] < COUNT for result in results if result["pace"] == "while probed")


async def _at_once(session: Session) -> None:
    for number in range(COUNT):
        session.emit("message", f"{number}")


async def _while_probed(session: Session) -> None:
    """Send some before, some right when the websocket is probed, some right when it took over."""
    sent = 0
    for phase, until in ((Phase.OPEN, 300), (Phase.PROBING, 700), (Phase.UPGRADED, COUNT)):
        while session.connection is not None and session.connection.phase is not phase:
            await asyncio.sleep(0)
        for number in range(sent, until):
            session.emit("message", f"{number}")
            if number % 50 == 0:
                await asyncio.sleep(0)
        sent = until


async def _by_timers(session: Session) -> None:
    for number in range(COUNT):
        session.emit("message", f"{number}")
        if number % 5 == 0:
            await asyncio.sleep(0.001)


async def _in_answer(session: Session) -> None:
    """Send as many as have come, whenever some have."""
    sent = 0
    while sent < COUNT:
        until = len(session.data)
        for number in range(sent, until):
            session.emit("message", f"{number}")
        sent = until
        await asyncio.sleep(0)


PACES = {"at once": _at_once, "while probed": _while_probed, "timers": _by_timers, "in answer": _in_answer}

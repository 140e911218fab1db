"""
A server in a separate process, for tests that kill it, suspend it, or put load on it.

The command line is JSON: where its Redis is, its options, its port and its workers.
It reports on HTTP pages next to its stream.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time

from primacron import BackendUnavailable, Context, HttpRequest, Primacron, Session
from primacron.cluster.cluster import Cluster
from primacron.testing import Client
from tests.support.places import HOST, connect

given = json.loads(sys.argv[1])
server = Primacron(connect(given["redis"]), given["options"])
errors: list[tuple[str, str]] = []
ended: list[tuple[str, str]] = []
blobs: list[int] = []
clients: list[Client] = []


@server.uuid
def name(request: HttpRequest) -> str:
    """Name a session as its client asks."""
    return request.query.get("session") or request.query["account"]


@server.on("error::*")
def erred(error: Exception, context: Context) -> None:
    """Record an error."""
    errors.append((getattr(error, "event", None) or "error::handler", str(error)))


@server.on("disconnection")
def left(session: Session, reason: str) -> None:
    """Record which session ended, and why."""
    ended.append((session.id, reason))


@server.event("echo")
def echo(session: Session, number: int) -> None:
    """Send a number back."""
    session.emit("echo", number)


@server.channels("lot:{number}", presence=True)
def enter(session: Session, number: int) -> str:
    """Let everyone into lots, who see each other's accounts."""
    return session.account


@server.event("tell")
async def tell(session: Session, account: str, id: str, number: int) -> tuple[str, bool, float]:
    """Send a number to another session; answer with the receipt, and how many seconds it took."""
    began = time.monotonic()
    receipt = await server.session(account, id).emit("told", number)
    return receipt.status, receipt.certain, time.monotonic() - began


@server.event("blob")
def blob(session: Session, text: str) -> int:
    """Answer with the length of a text."""
    blobs.append(len(text))
    return len(text)


@server.event("block")
def block(session: Session, seconds: float) -> None:
    """Block the event loop for this many seconds."""
    session.emit("blocking")
    server.node.loop.call_later(0.05, time.sleep, seconds)


@server.event("hang")
async def hang(session: Session) -> None:
    """Say so, and never return."""
    session.emit("hanging")
    await asyncio.Event().wait()


@server.event("rest")
async def rest(session: Session, seconds: float) -> None:
    """Say so, and take some time."""
    session.emit("resting")
    await asyncio.sleep(seconds)
    print("rested")


@server.event("sleep", thread=True)
def sleep(session: Session, seconds: float) -> None:
    """Say so, and block a thread."""
    server.from_thread(session.emit, "sleeping")
    time.sleep(seconds)


@server.get("/state")
def state(request: HttpRequest) -> str:
    """Report what the server has observed."""
    return json.dumps(
        {
            "pid": os.getpid(),
            "node": server.node.id,
            "nodes": sorted(cluster.others() | {server.node.id})
            if isinstance(cluster := server.node.cluster, Cluster)
            else [],
            "sessions": server.count(),
            "counters": {name: number for name, number in server.metrics.counters.items() if number},
            "blobs": len(blobs),
            "errors": errors,
            "ended": ended,
            "unready": server.unready(),
            "tasks": len(asyncio.all_tasks()),
        }
    )


@server.get("/crowd")
async def crowd(request: HttpRequest) -> str:
    """Connect this many clients without sockets; report how many sessions there are then."""
    begin, count = len(clients), int(request.query["count"])
    for first in range(begin, begin + count, 100):
        numbers = range(first, min(first + 100, begin + count))
        names = (f"{request.query['name']}-{number}" for number in numbers)
        clients.extend(await asyncio.gather(*(Client.connect(server, name) for name in names)))
    return json.dumps(server.count())


@server.get("/members")
async def members(request: HttpRequest) -> str:
    """Report who is in a lot, and whether that is certain."""
    found = await server.channel(request.query["lot"]).members()
    return json.dumps([sorted(member.account for member in found), found.certain])


@server.get("/blocks")
def blocks(request: HttpRequest) -> str:
    """Report how many memory blocks are in use after a garbage collection."""
    gc.collect()
    return json.dumps(sys.getallocatedblocks())


@server.get("/find")
async def find(request: HttpRequest) -> str:
    """Report at which node a session is; null if it is nowhere or unknown."""
    try:
        found = await server.find(request.query["account"], request.query["session"])
    except BackendUnavailable:
        found = None
    return json.dumps(None if found is None else found.node)


if __name__ == "__main__":
    server.run(given["port"], HOST, workers=given["workers"])
    print("ended in order")

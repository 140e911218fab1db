"""Benchmark server: Primacron, which feeds clients that drop."""

from __future__ import annotations

import argparse
import asyncio

from benchmarks.servers.feed import feed
from primacron import Primacron, Session


def make_node() -> Primacron:
    """Return a server whose sessions are in one room, and have an account each: a0, a1, a2, ..."""
    server = Primacron()
    feeds: list[asyncio.Task[None]] = []

    @server.on("connection")
    def join(session: Session) -> None:
        session.join("room")

    @server.event("who")
    async def who(session: Session, client: int) -> bool:
        return session.account == f"a{client}"

    @server.event("begin")
    async def begin(session: Session, clients: int, count: int) -> None:
        async def to_room(number: int) -> None:
            server.channel("room").emit("room", number)

        async def to_client(client: int, number: int) -> None:
            server.account(f"a{client}").emit("direct", number)

        feeds.append(asyncio.create_task(feed(to_room, to_client, clients, count)))

    return server


def main() -> None:
    """Serve until a signal arrives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    args = parser.parse_args()
    make_node().run(args.port, "127.0.0.1")


if __name__ == "__main__":
    main()

"""Benchmark server: one Primacron node of a cluster, with echo, fan-out, forwards and look-ups."""

from __future__ import annotations

import argparse
import asyncio

from primacron import HttpRequest, Primacron, Session

NEWS = "hello broadcast payload"


def make_node(redis: int) -> Primacron:
    """Return a server whose sessions are named after their accounts: a0, a1, a2, ..."""
    server = Primacron(f"redis://127.0.0.1:{redis}")

    @server.uuid
    def name(request: HttpRequest) -> str:
        return request.query["account"]

    @server.event("echo")
    async def echo(session: Session, text: str) -> None:
        session.emit("echo", text)

    @server.event("b")
    async def broadcast(session: Session) -> None:
        server.everyone.emit("news", NEWS)

    @server.event("each")
    async def send_to_each(session: Session, count: int) -> None:
        for number in range(count):
            server.session(f"a{number}", f"a{number}").emit("news", NEWS)

    @server.event("find")
    async def find_each(session: Session, count: int) -> None:
        found = await asyncio.gather(*(server.find(f"a{number}", f"a{number}") for number in range(count)))
        if None not in found:
            server.everyone.emit("news", NEWS)

    return server


def main() -> None:
    """Serve until a signal arrives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("redis", type=int, help="the port of Redis")
    args = parser.parse_args()
    make_node(args.redis).run(args.port, "127.0.0.1")


if __name__ == "__main__":
    main()

"""
Benchmark server: Primacron with channels, in memory or as one node of a cluster.

Sessions join channels at their handshake, where its query says so, or ask to.
"""

from __future__ import annotations

import argparse

from primacron import Primacron, Session

NEWS = "hello broadcast payload"
#: Channels over which a burst of publishes is spread.
SPREAD = 100


def make_node(redis: int | None = None) -> Primacron:
    """Return a server with rooms and with three kinds of channels: plain ones, with history, and with presence."""
    server = Primacron(f"redis://127.0.0.1:{redis}") if redis else Primacron()
    server.channels("open:{name}")
    server.channels("kept:{name}", history=100, keep=3600)
    server.channels("seen:{name}", presence=True)

    @server.on("connection")
    def begin(session: Session) -> None:
        """Join as many channels as the query says: ``rooms`` and ``logs`` that all join, ``own`` and ``kept`` ones."""
        account = session.account
        prefixes = {"rooms": "room", "logs": "kept:log", "own": account, "kept": f"kept:{account}"}
        for given, prefix in prefixes.items():
            for number in range(int(session.query.get(given, "0"))):
                session.join(f"{prefix}-{number}")

    @server.event("b")
    async def broadcast(session: Session) -> None:
        server.everyone.emit("news", NEWS)

    @server.event("say")
    async def say(session: Session, channel: str) -> None:
        server.channel(channel).emit("news", NEWS)

    @server.event("each")
    async def say_to_each(session: Session, count: int) -> None:
        for number in range(count):
            server.channel(f"a{number}-0").emit("news", NEWS)

    @server.event("each-kept")
    async def publish_to_each(session: Session, count: int) -> None:
        for number in range(count):
            server.channel(f"kept:a{number}-0").emit("news", NEWS)

    @server.event("publish")
    async def publish(session: Session, count: int) -> None:
        """Publish where nobody is, and answer when all is kept: Redis takes one after the other."""
        for number in range(1, count):
            server.channel(f"kept:{number % SPREAD}").emit("news", NEWS)
        await server.channel("kept:0").emit("news", NEWS)
        session.emit("news", NEWS)

    return server


def main() -> None:
    """Serve until a signal arrives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("redis", type=int, nargs="?", help="the port of Redis")
    args = parser.parse_args()
    make_node(args.redis).run(args.port, "127.0.0.1")


if __name__ == "__main__":
    main()

"""
Benchmark server: Primacron with echo, fan-out and drop; in memory, one process.

Every message is validated by its handler's annotations, as in an application.
"""

from __future__ import annotations

import argparse
import ssl

from primacron import Primacron, Session

NEWS = "hello broadcast payload"


def make_events() -> Primacron:
    """Return a server with JSON events: ``{"event": name, "args": [...]}``."""
    server = Primacron()

    @server.event("echo")
    async def echo(session: Session, text: str) -> None:
        session.emit("echo", text)

    @server.event("numbers")
    async def take_numbers(session: Session, numbers: list[float]) -> None:
        pass

    @server.event("b")
    async def broadcast(session: Session) -> None:
        server.everyone.emit("news", NEWS)

    @server.event("drop")
    async def drop(session: Session) -> None:
        server.everyone.disconnect()

    return server


def make_raw() -> Primacron:
    """Return a server whose messages are bare texts."""
    server = Primacron(dialect="raw")

    @server.event("message")
    async def message(session: Session, text: str) -> None:
        if text == "b":
            server.everyone.emit("message", NEWS)
        else:
            session.emit("message", text)

    return server


def main() -> None:
    """Serve until a signal arrives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--raw", action="store_true", help="messages are bare texts instead of events")
    parser.add_argument("file", nargs="?", help="a file with a certificate and its key")
    args = parser.parse_args()
    context = None
    if args.file:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(args.file)
    server = make_raw() if args.raw else make_events()
    server.run(args.port, "127.0.0.1", ssl=context)


if __name__ == "__main__":
    main()

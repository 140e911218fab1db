"""
A websocket server that sends back what it gets, for conformance suites.

``python -m primacron.standalone.echo PORT`` answers on any path. It is what the
server is made of, HTTP front and frame codec, without sessions and Engine.IO.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final

from primacron.config import Options
from primacron.plain import SWITCH
from primacron.sessions.transport import WebSocket
from primacron.standalone.connection import HttpConnection
from primacron.standalone.frames import BINARY, COMPILED, TEXT, encode_frame
from primacron.standalone.listener import Listener
from primacron.standalone.sockets import bind
from primacron.standalone.websocket import FrameStream
from primacron.turns import Turns
from primacron.web import Exchange, HttpResponse, WebSocketExchange
from primacron.wheel import Wheel

#: Largest message, in bytes.
MAX_MESSAGE: Final = 32 * 1024 * 1024


class EchoStream(FrameStream, asyncio.BufferedProtocol):
    """Echoes each message; stops reading while the client is not reading the echoes."""

    __slots__ = ()

    def on_text(self, text: str) -> None:
        """Echo a text message."""
        self._echo(TEXT, text.encode())

    def on_binary(self, data: bytes) -> None:
        """Echo a binary message."""
        self._echo(BINARY, data)

    def _echo(self, opcode: int, data: bytes) -> None:
        self.send_pongs()  # pings that came first are answered first
        if self._deflater is not None:
            self.put([encode_frame(opcode, self._deflater.deflate(data), compressed=True)])
        else:
            self.put([encode_frame(opcode, data)])

    def pause_writing(self) -> None:
        """Stop reading as well."""
        super().pause_writing()
        self.pause()

    def resume_writing(self) -> None:
        """Resume reading as well."""
        super().resume_writing()
        self.resume()


class EchoRoutes:
    """Accepts websockets on every path."""

    def handle(self, exchange: Exchange) -> None:
        """Refuse a plain request."""
        exchange.respond(HttpResponse(426, b"only websockets here\n", ((b"Upgrade", b"websocket"),)))

    def upgrade(self, exchange: WebSocketExchange[WebSocket]) -> None:
        """Accept a websocket."""
        stream = exchange.accept()
        assert isinstance(stream, EchoStream)
        stream.put([])

    def problem(self, error: Exception, **context: Any) -> None:
        """Ignore it: a client that breaks the rules is told by the close frame."""


async def serve(sock: socket.socket, *, tls: ssl.SSLContext | None = None) -> asyncio.Server:
    """Serve on a bound socket, in the running loop."""
    loop = asyncio.get_running_loop()
    options = Options(max_payload=MAX_MESSAGE, deflate=True)
    listener = Listener(EchoRoutes(), options, loop, Wheel(loop), Turns(loop), EchoStream, secure=tls is not None)
    return await loop.create_server(lambda: HttpConnection(listener), sock=sock, ssl=tls)


def main() -> None:
    """Serve until a signal arrives."""
    arguments = _read_arguments()
    if arguments.plain and COMPILED:
        # The codec is already loaded: restart the process with the other one.
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, SWITCH: "1"})  # noqa: S606
    runner: Callable[[Coroutine[Any, Any, None]], None] = asyncio.run
    if not arguments.asyncio:
        import uvloop  # noqa: PLC0415 (not wanted with --asyncio)

        runner = uvloop.run
    runner(_serve(arguments))


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m primacron.standalone.echo", description=__doc__)
    parser.add_argument("port", type=int, help="0 is any free one")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--plain", action="store_true", help="the codec as plain Python, not the compiled one")
    parser.add_argument("--asyncio", action="store_true", help="asyncio's own event loop, not uvloop")
    parser.add_argument("--certificate", metavar="FILE", help="serve over TLS; FILE has the key as well")
    return parser.parse_args()


async def _serve(arguments: argparse.Namespace) -> None:
    tls = None
    if arguments.certificate:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(arguments.certificate)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    for sock in bind(arguments.host, arguments.port):
        server = await serve(sock, tls=tls)
        host, port, *_ = server.sockets[0].getsockname()
        codec = "compiled" if COMPILED else "plain"
        print(f"{'wss' if tls else 'ws'}://{host}:{port}/ {codec}", flush=True)  # noqa: T201
    await stop.wait()


if __name__ == "__main__":
    main()

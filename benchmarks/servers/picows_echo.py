"""Benchmark server: picows, a websocket library in Cython, without Engine.IO, sessions or validation."""

from __future__ import annotations

import argparse
import ssl

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

NEWS = b"hello broadcast payload"

clients: set[WSTransport] = set()


class Client(WSListener):  # type: ignore[misc]
    """One websocket."""

    def on_ws_connected(self, transport: WSTransport) -> None:
        clients.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        clients.discard(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
            return
        payload = frame.get_payload_as_bytes()
        if payload == b"b":
            for each in clients:
                each.send(WSMsgType.TEXT, NEWS)
        else:
            transport.send(WSMsgType.TEXT, payload)


def accept(request: WSUpgradeRequest) -> WSListener:
    return Client()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("file", nargs="?", help="a file with a certificate and its key")
    args = parser.parse_args()
    context = None
    if args.file:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(args.file)
    server = await ws_create_server(accept, "127.0.0.1", args.port, ssl=context, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())

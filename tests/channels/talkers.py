"""Clients of all dialects, which say and hear what their wire has, decoded."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import msgspec

from tests.support.engine import Client
from tests.support.hearing import DEADLINE
from tests.support.websocket import WebSocket

#: The query of each dialect whose clients may ask for channels.
ASKING: Final = {"json": "", "msgpack": "&format=msgpack"}


class Talker:
    """A websocket that exchanges whole messages."""

    def __init__(self, socket: WebSocket, *, packs: bool = False) -> None:
        self.socket = socket
        self._packs = packs

    @classmethod
    async def connect(cls, front: Client, account: str, query: str = "") -> Talker:
        """Connect, and read the open packet; of our own dialects with ``resume=1`` the event ``session`` as well."""
        socket = await front.websocket(f"account={account}{query}")
        assert socket.response.status == 101, socket.response
        talker = cls(socket, packs="format=msgpack" in query)
        await socket.receive()
        if "resume=1" in query and "_primuscb" not in query:
            assert (await talker.hear())["event"] == "session"
        return talker

    async def say(self, message: Any) -> None:
        """Send a message."""
        await self.socket.send(msgspec.msgpack.encode(message) if self._packs else "4" + json.dumps(message))

    async def hear(self) -> Any:
        """Return the next message."""
        async with asyncio.timeout(DEADLINE):
            data = await self.socket.receive()
        return msgspec.msgpack.decode(data) if isinstance(data, bytes) else json.loads(data.removeprefix("4"))

    async def ask(self, message: Any) -> Any:
        """Send a message, and return the next one."""
        await self.say(message)
        return await self.hear()

    async def join(self, name: str, number: int = 1) -> Any:
        """Ask to join a channel, and return the next message."""
        return await self.ask({"join": name, "id": number})

    async def leave(self, name: str, number: int = 2) -> Any:
        """Ask to leave a channel, and return the next message."""
        return await self.ask({"leave": name, "id": number})


def joined(name: str, number: int = 1) -> Any:
    """Return the answer to a join of a channel without history and presence."""
    return {"ack": number, "args": [{"channel": name}]}


def refused(type: str, message: str, path: str = "", number: int = 1) -> Any:
    """Return an error answer."""
    return {"ack": number, "error": {"type": type, "message": message, "path": path}}

"""
Clients that drop: of Primacron's protocol, whose sessions survive, or without ``--resume`` begin anew.

They wait before they come back as Socket.IO's clients do, so that all are away equally long.

Usage: ``python -m benchmarks.load.primacron_clients [--resume] PORT...``
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import time
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from benchmarks.load.received import Received, answer

#: Seconds before the first attempt to come back, doubled for each further one up to the most; half of it is by chance.
FIRST_DELAY: Final = 1.0
LONGEST_DELAY: Final = 5.0
#: Objects with only one of these keys are no messages, and are not counted.
CONTROL: Final = ({"taken"}, {"move"}, {"close"})


class Client:
    """A client that comes back whenever its connection ends."""

    def __init__(self, number: int, port: str, *, resumes: bool) -> None:
        self.received = Received(returns=-1)
        self._number = number
        query = f"account=a{number}&EIO=4&transport=websocket{'&resume=1' if resumes else ''}"
        self._url = f"ws://127.0.0.1:{port}/stream/?{query}"
        self._resumes = resumes
        self._token: str | None = None
        self._window = 0.0
        self._attempt = 0
        self._run = 0
        #: How many messages came in this run of the session, and those that were sent in it.
        self._taken = 0
        self._sent: list[str] = []
        self._heard = 0.0
        self._connection: ClientConnection

    async def stay(self) -> None:
        """Connect, and connect again, for ever."""
        failed = 0
        while True:
            if time.monotonic() - self._heard > self._window:
                self._token = None
            again = "&again=1" if self._token else ""
            with contextlib.suppress(OSError, EOFError, WebSocketException):
                async with connect(self._url + again, compression=None, ping_interval=None) as self._connection:
                    await self._talk()
            failed = 0 if self.received.is_connected else failed + 1
            self.received.is_connected = False
            await asyncio.sleep(min(FIRST_DELAY * 2**failed, LONGEST_DELAY) * random.uniform(0.5, 1.5))

    async def send(self, event: str, *args: object) -> None:
        """Send an event, and keep it: it is sent again if the server does not get it."""
        self._sent.append("4" + json.dumps({"event": event, "args": args}))
        await self._connection.send(self._sent[-1])

    async def _talk(self) -> None:
        """Hear a connection until it ends, or is silent for too long."""
        opening = json.loads((await self._hear(LONGEST_DELAY))[1:])
        patience = (opening["pingInterval"] + opening["pingTimeout"]) / 1000
        if self._resumes:
            await self._connection.send("4" + json.dumps({"session": self._proof()}))
        else:
            self._come_back()
        while True:
            packet = await self._hear(patience)
            if packet == "2":
                await self._connection.send("3")
            elif packet.startswith("4"):
                await self._take(json.loads(packet[1:]))

    async def _hear(self, patience: float) -> str:
        async with asyncio.timeout(patience):
            packet = await self._connection.recv()
        self._heard = time.monotonic()
        assert isinstance(packet, str)
        return packet

    def _proof(self) -> dict[str, object]:
        """Return what the first message says: nothing, or which session it is, and what has come of it."""
        if self._token is None:
            return {}
        self._attempt += 1
        return {"token": self._token, "taken": self._taken, "run": self._run, "attempt": self._attempt}

    async def _take(self, message: dict[str, Any]) -> None:
        if message.get("event") == "session":
            await self._begin(message["args"][0])
        elif message.keys() not in CONTROL:
            self._taken += 1
            self.received.take(message["event"], message["args"])
        elif not message.get("close", {}).get("again", True):
            self._token = None

    async def _begin(self, answer: dict[str, Any]) -> None:
        """Go on where the session was left, or begin to count anew."""
        unsent = self._sent[answer["taken"] or 0 :] if answer["recovered"] in (True, "partial") else []
        if answer["recovered"] is True:
            self.received.recovered += 1
        else:
            self._taken, self._sent = 0, unsent
        if answer["token"] != self._token:
            self._attempt = 0
        self._token, self._window, self._run = answer["token"], answer["window"], answer["run"]
        for packet in unsent:
            await self._connection.send(packet)
        self._come_back()

    def _come_back(self) -> None:
        self.received.returns += 1
        self.received.is_connected = True


async def main() -> None:
    """Connect a client to each port, and count what it gets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resume", action="store_true", help="sessions survive")
    parser.add_argument("ports", nargs="+")
    args = parser.parse_args()
    clients = [Client(number, port, resumes=args.resume) for number, port in enumerate(args.ports)]
    async with asyncio.TaskGroup() as staying:
        tasks = [staying.create_task(client.stay()) for client in clients]
        await answer(
            [client.received for client in clients], lambda count: clients[0].send("begin", len(clients), count)
        )
        for task in tasks:
            task.cancel()


if __name__ == "__main__":
    asyncio.run(main())

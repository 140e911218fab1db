"""Clients of three kinds that come back whenever their connection is lost, and write down what they see."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from primacron.testing.promises import EVENT, AnyRecord, Arrived, Closed, Mark, Opened
from tests.support.engine import SEPARATOR
from tests.support.http import Response, fetch
from tests.support.websocket import CLOSE, TEXT, WebSocket

KINDS: Final = ("polling", "upgrade", "websocket")
#: Seconds between two messages of a client, for how long one stays, and after which it comes back.
PAUSE: Final = (0.3, 1.2)
STAY: Final = (4.0, 15.0)
AWAY: Final = (0.05, 0.5)

_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


class _Lost(Exception):
    """The connection has ended, for a reason."""


class Returning:
    """
    One client, always of the same name.

    ``ports`` tells where to connect to. It stays for some seconds and comes anew,
    unless it ``settles``; it does not come back at all if it is told so.
    """

    def __init__(
        self,
        kind: str,
        ports: Callable[[], int],
        name: tuple[str, str],
        write: Callable[[AnyRecord], object],
        choices: random.Random,
        *,
        comes_back: bool = True,
        is_settled: bool = False,
    ) -> None:
        self.kind = kind
        self.name = name
        #: The sid of the connection that is open; None if none is.
        self.sid: str | None = None
        self._ports = ports
        self._write = write
        self._choices = choices
        self._comes_back = comes_back
        self._is_settled = is_settled
        #: Whether its connection is new, and it has not tried yet to change its transport.
        self.is_about_to_move = kind == "upgrade"
        #: Seconds between two messages, and for how long it stays.
        self.pause, self.stay = PAUSE, STAY
        self._leaves = asyncio.Event()
        self._is_pausing = False
        self._outbox: asyncio.Queue[str | None] = asyncio.Queue()
        self._stamps = itertools.count(choices.randrange(10**9))

    @property
    def query(self) -> str:
        """What it says of itself in a handshake."""
        return f"account={self.name[0]}&session={self.name[1]}"

    def settle(self) -> None:
        """Let it stay from now on."""
        self._is_settled = True

    def leave(self) -> None:
        """Let it go away for good."""
        self._comes_back = False
        self._leaves.set()

    async def run(self) -> None:
        """Connect again and again."""
        while True:
            with contextlib.suppress(OSError, EOFError, TimeoutError, ValueError, _Lost):
                await self._live()
            if not self._comes_back:
                return
            await asyncio.sleep(self._choices.uniform(*AWAY))

    # One connection

    async def _live(self) -> None:
        port, self._outbox, self._is_pausing = self._ports(), asyncio.Queue(), False
        query = self.query
        if self.kind == "websocket":
            socket = await WebSocket.open(port, f"/stream/?EIO=4&transport=websocket&{query}")
            with contextlib.ExitStack() as stack:
                stack.callback(socket.raw.abort)
                if socket.response.status != 101:
                    raise _Lost(str(socket.response.status))
                self._opened(await self._next_text(socket))
                await self._until_closed([self._talk(), self._read(socket), self._write_all(socket)])
        else:
            response = await fetch(port, "GET", f"/stream/?EIO=4&transport=polling&{query}&t={self._stamp()}")
            first, *others = self._packets_of(response)
            self._opened(first)
            for packet in others:
                self._take(packet)
            await self._until_closed([self._talk(), self._carry(port)])

    def _opened(self, packet: str) -> None:
        if packet[0] != "0":
            raise _Lost(packet)
        self.sid = str(json.loads(packet[1:])["sid"])
        self.is_about_to_move = self.kind == "upgrade"
        self._write(Opened(time.monotonic(), self.sid, *self.name))

    async def _until_closed(self, works: list[Coroutine[Any, Any, None]]) -> None:
        """Do all of these until one ends; write down the end before anything is given up."""
        tasks = [asyncio.create_task(work) for work in works]
        assert self.sid is not None
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            reason = repr(next(iter(done)).exception())
            self._write(Closed(time.monotonic(), self.sid, reason))
        except asyncio.CancelledError:
            self._write(Closed(time.monotonic(), self.sid, "cancelled"))
            raise
        finally:
            self.sid = None
            for task in tasks:
                task.cancel()
            # Several may have ended at once; what nobody asks for would be reported as an error of its own.
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()

    async def _talk(self) -> None:
        """Send numbers, until it is time to leave."""
        until = asyncio.get_running_loop().time() + self._choices.uniform(*self.stay)
        for number in itertools.count(1):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._choices.uniform(*self.pause)):
                    await self._leaves.wait()
            if self._leaves.is_set() or (not self._is_settled and asyncio.get_running_loop().time() > until):
                raise _Lost("left")
            self._outbox.put_nowait("4" + json.dumps({"event": "say", "args": [number]}))

    def _take(self, packet: str) -> None:
        if packet[0] == "2":
            self._outbox.put_nowait("3")
        elif packet[0] == "1":
            raise _Lost("closed by the server")
        elif packet[0] == "4" and self.sid is not None:
            self._hear(json.loads(packet[1:]), self.sid)

    def _hear(self, message: dict[str, Any], sid: str) -> None:
        """Take a message of the server."""
        if message.get("event") == EVENT:
            self._write(Arrived(time.monotonic(), sid, Mark(*message["args"])))

    # By websocket

    async def _next_text(self, socket: WebSocket) -> str:
        while (frame := await socket.receive_frame()).opcode != TEXT:
            if frame.opcode == CLOSE:
                raise _Lost(frame.reason)
        return frame.text

    async def _read(self, socket: WebSocket) -> None:
        while True:
            self._take(await self._next_text(socket))

    async def _write_all(self, socket: WebSocket) -> None:
        while True:
            packet = await self._outbox.get()
            if packet is not None:
                await socket.send(packet)

    # By polling

    def _stamp(self) -> str:
        """Return what no other request has, as official clients do."""
        number, text = next(self._stamps), ""
        while number:
            number, digit = divmod(number, 36)
            text = _DIGITS[digit] + text
        return text

    @staticmethod
    def _packets_of(response: Response) -> list[str]:
        if response.status != 200:
            raise _Lost(f"{response.status} {response.text[:100]}")
        return response.text.split(SEPARATOR)

    async def _carry(self, port: int) -> None:
        """Poll and post; go on by websocket when the upgrade has succeeded."""
        works = [self._poll(port), self._post(port)]
        probing = asyncio.create_task(self._probe(port)) if self.kind == "upgrade" else None
        tasks = [asyncio.create_task(work) for work in works]
        socket: WebSocket | None = None
        try:
            if probing is not None:
                await asyncio.wait([probing, *tasks], return_when=asyncio.FIRST_COMPLETED)
                socket = probing.result() if probing.done() else None
            self.is_about_to_move = socket is not None
            if socket is None:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            else:
                self._outbox.put_nowait(None)
                await asyncio.wait(tasks)
            for task in tasks:
                if task.done():
                    task.result()
            if socket is not None:
                await socket.send("5")
                self.is_about_to_move = False
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._read(socket))
                    group.create_task(self._write_all(socket))
        except* (OSError, EOFError, TimeoutError, ValueError, _Lost) as failures:
            raise _Lost(str(failures.exceptions)) from None
        finally:
            begun: list[asyncio.Task[Any]] = [*tasks, *([probing] if probing is not None else [])]
            for task in begun:
                task.cancel()
            for outcome in await asyncio.gather(*begun, return_exceptions=True):
                if isinstance(outcome, WebSocket):  # also one that opened when nobody waited for it any more
                    outcome.raw.abort()

    async def _poll(self, port: int) -> None:
        while True:
            target = f"/stream/?EIO=4&transport=polling&sid={self.sid}&t={self._stamp()}"
            for packet in self._packets_of(await fetch(port, "GET", target)):
                self._take(packet)
            if self._is_pausing:
                return

    async def _post(self, port: int) -> None:
        while True:
            packets = [await self._outbox.get()]
            while not self._outbox.empty():
                packets.append(self._outbox.get_nowait())
            target = f"/stream/?EIO=4&transport=polling&sid={self.sid}&t={self._stamp()}"
            texts = [packet for packet in packets if packet is not None]
            if texts:
                response = await fetch(port, "POST", target, None, SEPARATOR.join(texts).encode())
                if response.status != 200:
                    raise _Lost(f"{response.status} {response.text[:100]}")
            if None in packets:
                return

    async def _probe(self, port: int) -> WebSocket | None:
        """Return the websocket to go on with; None if there is to be no upgrade."""
        await asyncio.sleep(self._choices.uniform(0, 1))
        try:
            socket = await WebSocket.open(port, f"/stream/?EIO=4&transport=websocket&sid={self.sid}")
        except (OSError, EOFError, TimeoutError, ValueError):
            return None
        try:
            if socket.response.status == 101:
                await socket.send("2probe")
                if await self._next_text(socket) == "3probe":
                    self._is_pausing = True
                    return socket
        except (OSError, EOFError, TimeoutError, _Lost):
            pass
        except asyncio.CancelledError:
            socket.raw.abort()
            raise
        socket.raw.abort()
        return None

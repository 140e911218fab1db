"""A client on real sockets whose session survives its connections."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, Self

from tests.resume.core import Closing, Core, Delivered, Message, Moving, Opened, State
from tests.resume.links import LOST, NOOP, PING, PONG, Link, Packet, Transport, open_link, read_message, write_message
from tests.support.engine import Client
from tests.support.http import DEADLINE

#: Seconds between two attempts to come back, where the server names none.
PAUSE: Final = 0.1


async def nothing() -> None:
    """Do nothing."""


class _Connection:
    """One of its connections: what is read and written as long as it lasts."""

    def __init__(self, owner: ResumingClient, link: Link, number: int) -> None:
        self._owner = owner
        self._link = link
        self._number = number
        self._pongs = 0
        self._wake = asyncio.Event()
        self._is_writing = False
        #: Whether nothing more comes.
        self.is_over = False

    @property
    def is_idle(self) -> bool:
        """Whether it has written all that there was."""
        return not self._is_writing and not self._wake.is_set()

    def wake(self) -> None:
        """Let it write what is to be written."""
        self._wake.set()

    async def read(self) -> None:
        """Take what comes, until nothing more does."""
        packets = self._link.packets()
        with contextlib.suppress(*LOST):
            while True:
                async with asyncio.timeout(self._link.patience):
                    self._take(await anext(packets))
        self._lose()

    async def write(self, first: Packet) -> None:
        """Write the first message, then what is to be written, as it comes up."""
        packets: list[Packet] = [first]
        with contextlib.suppress(*LOST):
            while True:
                self._is_writing = True
                await self._link.write(packets)
                self._is_writing = False
                await self._wake.wait()
                self._wake.clear()
                pongs, self._pongs = self._pongs, 0
                packets = [*[PONG] * pongs, *self._owner.to_write(self._number)]
        self._lose()

    def _lose(self) -> None:
        self.is_over = True
        self._owner.lose(self._number)

    def _take(self, packet: Packet) -> None:
        if packet == PING:
            # Not by an older connection: the pong would confirm what it brought, which was ignored.
            if self._owner.touch(self._number):
                self._pongs += 1
                self.wake()
        elif packet != NOOP:
            self._owner.take(self._number, read_message(packet))


class ResumingClient:
    """
    A client that comes back when it is told to, and never closes a connection that it had.

    It answers pings, and notices itself when it is lost; see :meth:`until_lost`.
    """

    def __init__(self, port: int, account: str, transport: Transport, form: str, tasks: asyncio.TaskGroup) -> None:
        self.account = account
        self.core = Core()
        #: What the application was told when its session opened, each time.
        self.opened: list[Opened] = []
        self.moves: list[Moving] = []
        self.closings: list[Closing] = []
        self._front = Client(port)
        self.transport: Transport = transport
        self._form = form
        self._tasks = tasks
        self._running: list[asyncio.Task[None]] = []
        self._connection: _Connection | None = None
        self._link: Link | None = None
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._changed = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def at(
        cls, port: int, account: str = "a", transport: Transport = "websocket", form: str = "json"
    ) -> AsyncIterator[Self]:
        """Make one for the duration of the block; at its end its connections are cut off."""
        try:
            async with asyncio.TaskGroup() as tasks:
                made = cls(port, account, transport, form, tasks)
                try:
                    yield made
                finally:
                    for each in made._running:
                        each.cancel()
                    await made._front.close()
        except BaseExceptionGroup as group:  # one in another for each client would hide what happened
            raise group.exceptions[0] from None

    async def connect(self) -> Opened:
        """Connect, or come back, and wait until the session is open; try again where the server asks for that."""
        before = len(self.opened)
        while True:
            asked = len(self.closings)
            await self.come_back()
            await self._until(lambda: len(self.opened) > before or self.core.state is State.APART)
            if len(self.opened) > before:
                return self.opened[-1]
            (closing,) = self.closings[asked:]
            await asyncio.sleep(max(closing.after, PAUSE))

    async def come_back(self, before_first: Callable[[], Awaitable[object]] = nothing) -> None:
        """
        Open a connection and send the first message by it, without waiting for the answer.

        ``before_first`` is awaited behind the open packet, before the first message; by polling
        the first poll is under way by then.
        """
        query = {"account": self.account, "format": self._form, **self.core.come(self._now())}
        link = self._link = await open_link(self._front, self.transport, query)
        connection = _Connection(self, link, self.core.connection + 1)
        self._start(connection.read())
        await before_first()
        first = self.core.begin(self._now())
        self._connection = connection
        if connection.is_over:
            self.lose(self.core.connection)
        self._start(connection.write(write_message(first, self._form)))

    def send(self, event: str, *args: Any, **more: Any) -> None:
        """Send an event, now or as soon as the session is open."""
        self.core.send({"event": event, "args": args, **more})
        self._wake()

    async def receive(self) -> Message:
        """Return the next message for the application."""
        async with asyncio.timeout(DEADLINE):
            return await self._messages.get()

    async def until_open(self) -> Opened:
        """Wait until the session is open by the newest connection."""
        await self._until(lambda: self.core.state is State.OPEN)
        return self.opened[-1]

    async def until_lost(self) -> None:
        """Wait until the client knows that it has no connection."""
        await self._until(lambda: self.core.state in (State.APART, State.ENDED))

    async def until_confirmed(self) -> None:
        """Wait until the server is known to have taken all that was sent."""
        await self._until(lambda: not self.core.unconfirmed)

    async def until_idle(self) -> None:
        """Wait until the newest connection has written all that there is to write."""
        connection = self._connection
        assert connection is not None
        async with asyncio.timeout(DEADLINE):
            while not connection.is_idle:  # nothing tells
                await asyncio.sleep(0.002)

    async def end(self) -> None:
        """End the session by the newest connection, and wait until that is closed."""
        assert self._link is not None
        await self._link.end()
        await self.until_lost()

    # From its connections

    def lose(self, connection: int) -> None:
        """Take note of the end of a connection."""
        self.core.lose(connection)
        self._changed.set()

    def touch(self, connection: int) -> bool:
        """Take note of a ping; tell whether it is to be answered."""
        self.core.touch(connection, self._now())
        return connection == self.core.connection

    def take(self, connection: int, message: Message) -> None:
        """Take a message."""
        heard = self.core.receive(connection, message, self._now())
        if isinstance(heard, Delivered):
            self._messages.put_nowait(heard.message)
        elif isinstance(heard, Opened):
            self.opened.append(heard)
            self._wake()
        elif isinstance(heard, Moving):
            self.moves.append(heard)
        elif isinstance(heard, Closing):
            self.closings.append(heard)
        self._changed.set()

    def to_write(self, connection: int) -> list[Packet]:
        """Return what is to be written by a connection."""
        if connection != self.core.connection:
            return []
        return [write_message(each, self._form) for each in self.core.to_write(self._now())]

    def _wake(self) -> None:
        if self._connection is not None:
            self._connection.wake()

    def _start(self, work: Any) -> None:
        self._running.append(self._tasks.create_task(work))

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

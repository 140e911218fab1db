"""Clients that follow a channel with history, and hold what they get against what they were promised."""

from __future__ import annotations

import asyncio
from typing import Any, Self

from primacron.positions import Position
from tests.channels.talkers import Talker
from tests.support.engine import Client
from tests.support.hearing import DEADLINE


class Follower:
    """
    A client in one channel.

    Messages have to come in order and once; which are missing in between has to be told.
    """

    def __init__(self, talker: Talker, channel: str) -> None:
        self.talker = talker
        self.channel = channel
        self.position: Position | None = None
        #: The arguments of each message, by epoch and offset.
        self.got: dict[tuple[str, int], list[Any]] = {}
        self.gaps: list[dict[str, Any]] = []
        self.answers: list[dict[str, Any]] = []
        self._news = asyncio.Condition()
        self._reading = asyncio.create_task(self._read_on())

    @classmethod
    async def join(cls, front: Client, account: str, channel: str, query: str = "") -> Self:
        """Connect, and join."""
        follower = cls(await Talker.connect(front, account, query), channel)
        await follower.ask({"join": channel, "id": 1})
        return follower

    async def come_back(self, front: Client, account: str) -> None:
        """Connect again, and ask for what was missed."""
        await self.close()
        self.talker = await Talker.connect(front, account)
        self._reading = asyncio.create_task(self._read_on())
        assert self.position is not None
        since = {"epoch": self.position.epoch, "offset": self.position.offset}
        await self.ask({"join": self.channel, "id": 1, "since": since})

    async def ask(self, request: Any) -> dict[str, Any]:
        """Ask for something, and return the answer."""
        count = len(self.answers)
        await self.talker.say(request)
        await self.until(lambda: len(self.answers) > count, "an answer")
        return self.answers[-1]

    async def until(self, condition: Any, what: str, seconds: float = DEADLINE) -> None:
        """Wait for something to come."""
        try:
            async with asyncio.timeout(seconds), self._news:
                await self._news.wait_for(lambda: condition() or self._reading.done())
        except TimeoutError:
            raise AssertionError(f"waited {seconds:g} s for {what}: at {self.position}, {self.gaps}") from None
        if self._reading.done():
            self._reading.result()
            raise AssertionError("the connection has ended")

    async def until_at(self, position: Position, seconds: float = DEADLINE) -> None:
        """Wait until it has everything up to a position."""
        await self.until(lambda: self.position == position, str(position), seconds)

    async def _read_on(self) -> None:
        while True:
            message = await self.talker.hear()
            async with self._news:
                self.take(message)
                self._news.notify_all()

    def take(self, message: Any) -> None:
        """Take a message of the server."""
        if message.get("channel", self.channel) != self.channel:
            return
        if "ack" in message:
            self.answers.append(message)
            about = message["args"][0] if message.get("args") else {}
            if "recovered" not in about and "offset" in about:
                self.position = Position(about["epoch"], about["offset"])
        elif "joined" in message:
            self.position = Position(message["joined"]["epoch"], message["joined"]["offset"])
        elif "gap" in message:
            self._miss(message["gap"])
        elif "offset" in message:
            self._get(message["offset"], message["args"])

    def _miss(self, gap: dict[str, Any]) -> None:
        self.gaps.append(gap)
        assert self.position is not None
        if gap["to"] is None:
            self.position = Position(gap["epoch"], gap["from"] - 1)
        else:
            assert gap["epoch"] == self.position.epoch
            assert gap["from"] == self.position.offset + 1
            self.position = Position(gap["epoch"], gap["to"])

    def _get(self, offset: int, args: list[Any]) -> None:
        assert self.position is not None
        assert offset == self.position.offset + 1, (offset, self.position, self.gaps)
        self.position = Position(self.position.epoch, offset)
        assert (self.position.epoch, offset) not in self.got
        self.got[self.position.epoch, offset] = args

    @property
    def contents(self) -> list[list[Any]]:
        """What it got, in order."""
        return [*self.got.values()]

    async def close(self) -> None:
        """Disconnect."""
        self._reading.cancel()
        await asyncio.wait({self._reading})
        await self.talker.socket.close()

"""Clients that keep a list of who is in a channel, by nothing but what they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Self

from tests.channels.talkers import Talker
from tests.support.engine import Client
from tests.support.hearing import DEADLINE


class Attendance:
    """
    Who is in a channel, as one client was told.

    Each change has to be one: nobody joins twice, or leaves who was not there.
    """

    def __init__(self, channel: str) -> None:
        self.channel = channel
        #: The info of each member by account and session; None while members are told as a number.
        self.members: dict[tuple[str, str], Any] | None = None
        self.count = 0
        self.is_certain = True
        #: What changed, in order, as texts like "join ann"; and the messages that told it.
        self.changes: list[str] = []
        self.messages: list[Any] = []

    def take(self, message: Any) -> None:
        """Take a message of the server; those about other things are ignored."""
        if "ack" in message:
            about = message["args"][0] if message.get("args") else {}
            if about.get("channel") == self.channel:
                self._begin(about)
        elif message.get("channel") == self.channel and "event" not in message:
            self.messages.append(message)
            if "joined" in message:
                self._begin(message["joined"])
            elif "presence" in message:
                self._change(message["presence"])
            elif "members" in message or "count" in message:
                self._begin(message)

    def _begin(self, about: dict[str, Any]) -> None:
        self.is_certain = about.get("certain", True)
        if "members" in about:
            self.members = {name_of(member): member["info"] for member in about["members"]}
            self.count = len(self.members)
            assert self.count == len(about["members"])
        else:
            self.members, self.count = None, about["count"]

    def _change(self, changes: list[Any]) -> None:
        assert changes
        assert self.members is not None
        for what, member in changes:
            name = name_of(member)
            self.changes.append(f"{what} {name[0]}")
            if what == "leave":
                assert self.members.pop(name) == member["info"]
            else:
                assert (name in self.members) == (what == "update")
                self.members[name] = member["info"]
        self.count = len(self.members)

    @property
    def accounts(self) -> list[str]:
        """The accounts of all members, sorted."""
        assert self.members is not None
        return sorted(account for account, _ in self.members)


def name_of(member: dict[str, Any]) -> tuple[str, str]:
    """Return the account and the session of a member."""
    assert member.keys() == {"account", "session", "info"}
    return member["account"], member["session"]


class Watcher:
    """A client in one channel, which reads all the time."""

    def __init__(self, talker: Talker, channel: str) -> None:
        self.talker = talker
        self.seen = Attendance(channel)
        #: All messages, in order.
        self.heard: list[Any] = []
        self._news = asyncio.Condition()
        self._reading = asyncio.create_task(self._read_on())

    @classmethod
    async def join(cls, front: Client, account: str, channel: str = "lot:7", query: str = "") -> Self:
        """Connect, and join."""
        watcher = cls(await Talker.connect(front, account, query), channel)
        await watcher.ask({"join": channel, "id": 1})
        return watcher

    async def ask(self, request: Any) -> Any:
        """Ask for something, and return the answer."""
        count = len(self.heard)
        await self.talker.say(request)
        await self.until(lambda: self._answer(count) is not None, "an answer")
        return self._answer(count)

    def _answer(self, begin: int) -> Any:
        return next((message for message in self.heard[begin:] if "ack" in message), None)

    async def until(self, condition: Callable[[], bool], what: str, seconds: float = DEADLINE) -> None:
        """Wait for something to come."""
        try:
            async with asyncio.timeout(seconds), self._news:
                await self._news.wait_for(lambda: condition() or self._reading.done())
        except TimeoutError:
            raise AssertionError(f"waited {seconds:g} s for {what}: {self.seen.members}") from None
        if not condition():
            self._reading.result()
            raise AssertionError("the connection has ended")

    async def until_sees(self, *accounts: str, seconds: float = DEADLINE) -> None:
        """Wait until it sees exactly these members."""
        await self.until(lambda: self.seen.accounts == sorted(accounts), f"{accounts}", seconds)

    async def _read_on(self) -> None:
        while True:
            message = await self.talker.hear()
            async with self._news:
                self.heard.append(message)
                self.seen.take(message)
                self._news.notify_all()

    async def close(self) -> None:
        """Disconnect."""
        self._reading.cancel()
        await asyncio.wait({self._reading})
        await self.talker.socket.close()

"""Clients that are in channels, and go on where they were whenever they come back."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import quote

from primacron.testing.promises import EVENT, AnyRecord, Joined, Left, Mark, Missed, Shown, Took
from tests.promises.clients import Returning

#: Seconds after which a client asks again for a channel that it was refused.
ASKS_AGAIN: Final = 0.5


class Membership:
    """What a client knows of one channel."""

    def __init__(self) -> None:
        #: Whether it is in it, as far as it knows.
        self.is_in = False
        #: Where it goes on when it comes back; None if it never was in it, or there is no history.
        self.position: tuple[str, int] | None = None
        #: Who is in it: info by account and session; None where there is no presence.
        self.members: dict[tuple[str, str], Any] | None = None

    def take(self, offset: int) -> None:
        """Go on to a message."""
        if self.position is not None:
            self.position = (self.position[0], max(offset, self.position[1]))

    def miss(self, epoch: str, begin: int, end: int | None) -> None:
        """Go on to what is behind a gap."""
        if end is None:
            self.position = (epoch, begin - 1)
        elif self.position is not None and begin == self.position[1] + 1:
            self.position = (epoch, end)

    def see(self, changes: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """Follow who comes and goes."""
        members = {} if self.members is None else self.members
        self.members = members
        for what, member in changes:
            if what == "leave":
                members.pop(_name_of(member), None)
            else:
                members[_name_of(member)] = member["info"]


def _name_of(member: dict[str, Any]) -> tuple[str, str]:
    return member["account"], member["session"]


class Member(Returning):
    """A client in some channels that it asks for, and in some rooms into which the server puts it."""

    def __init__(
        self,
        kind: str,
        ports: Callable[[], int],
        name: tuple[str, str],
        write: Callable[[AnyRecord], object],
        choices: random.Random,
        channels: Sequence[str],
        rooms: Sequence[str],
    ) -> None:
        super().__init__(kind, ports, name, write, choices)
        self.pause, self.stay = (2.0, 5.0), (8.0, 40.0)
        self.channels = {channel: Membership() for channel in channels}
        self.rooms = rooms
        self._ids = itertools.count(1)
        #: What it has asked for on this connection: the channel and the position.
        self._asked: dict[int, tuple[str, tuple[str, int] | None]] = {}

    @property
    def query(self) -> str:
        """What it says of itself in a handshake, and into which rooms it belongs."""
        return f"{super().query}&rooms={quote(','.join(self.rooms))}"

    @property
    def is_everywhere(self) -> bool:
        """Whether it is in all of its channels, as far as it knows."""
        return self.sid is not None and all(each.is_in for each in self.channels.values())

    def shown(self) -> list[Shown]:
        """Return whom it sees in its channels."""
        if self.sid is None:
            return []
        now, seen = time.monotonic(), [(channel, each.members) for channel, each in self.channels.items()]
        return [Shown(now, self.sid, channel, tuple(members)) for channel, members in seen if members is not None]

    def _opened(self, packet: str) -> None:
        super()._opened(packet)
        self._asked = {}
        for channel, membership in self.channels.items():
            membership.is_in = False
            self._join(channel)

    def _join(self, channel: str) -> None:
        number, since = next(self._ids), self.channels[channel].position
        request: dict[str, Any] = {"join": channel, "id": number}
        if since is not None:
            request["since"] = {"epoch": since[0], "offset": since[1]}
        self._asked[number] = (channel, since)
        self._outbox.put_nowait("4" + json.dumps(request))

    def _join_again(self, channel: str, sid: str) -> None:
        if self.sid == sid:
            self._join(channel)

    def _hear(self, message: dict[str, Any], sid: str) -> None:
        if "ack" in message:
            if message["ack"] in self._asked:
                self._answered(message, sid)
        elif "channel" not in message:
            super()._hear(message, sid)
        else:
            self._hear_in(message["channel"], message, sid)

    def _answered(self, message: dict[str, Any], sid: str) -> None:
        channel, since = self._asked.pop(message["ack"])
        if "error" in message:
            asyncio.get_running_loop().call_later(ASKS_AGAIN, self._join_again, channel, sid)
            return
        membership, [answer] = self.channels[channel], message["args"]
        membership.is_in = True
        epoch, offset = answer.get("epoch", ""), answer.get("offset", 0)
        if since is None:
            membership.position = (epoch, offset) if epoch else None
        if "members" in answer:
            membership.members = {}
            membership.see([("join", member) for member in answer["members"]])
        self._write(Joined(time.monotonic(), sid, channel, epoch, offset, since, answer.get("recovered")))

    def _hear_in(self, channel: str, message: dict[str, Any], sid: str) -> None:
        membership = self.channels[channel]
        match message:
            case {"event": event, "args": args} if event == EVENT:
                offset = message.get("offset", 0)
                self._write(Took(time.monotonic(), sid, channel, Mark(*args), offset))
                membership.take(offset)
            case {"gap": {"epoch": epoch, "from": begin, "to": end}}:
                self._write(Missed(time.monotonic(), sid, channel, epoch, begin, end))
                membership.miss(epoch, begin, end)
            case {"presence": changes}:
                membership.see(changes)
            case {"members": members}:
                membership.members = {}
                membership.see([("join", member) for member in members])
            case {"left": _}:
                membership.is_in = False
                self._write(Left(time.monotonic(), sid, channel))
                self._join(channel)

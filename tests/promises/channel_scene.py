"""Servers with channels, clients in them, and what each sees of the others."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from primacron.testing.promises import AnyRecord, Counted, Emptied, Named, Seated, Settled, decode_records, findings
from primacron.testing.promises.seats import compare_presence
from primacron.testing.promises.story import Quiet
from tests.promises.clients import KINDS
from tests.promises.members import Member
from tests.promises.scene import LIMITS, Scene, Server, files_in, given_to, lasting_port, playing
from tests.promises.stores import STORES
from tests.support.http import fetch
from tests.support.nginx import nginx_before

PROGRAM: Final = "tests.promises.channel_program"
#: Messages that channels keep, and the channels of each kind.
HISTORY: Final = 100
CHANNELS: Final = {
    "lots": [f"lot:{number}" for number in range(14)],
    "halls": [f"hall:{number}" for number in range(6)],
    "rooms": [f"room-{number}" for number in range(6)],
}
#: Seconds between two sends of a server to channels of a kind, and between two questions.
PACE: Final = {"lots": 0.07, "halls": 0.15, "rooms": 0.15, "ask": 0.5}


#: The kinds that clients join.
JOINED: Final = ("lots", "halls")


class ChannelScene(Scene):
    """A scene whose clients are in channels."""

    @property
    def members(self) -> list[Member]:
        """The clients."""
        return [client for client in self.clients if isinstance(client, Member)]

    def bring(self, count: int) -> None:
        """Let clients of all kinds connect through the balancer, each for some channels and rooms."""
        for number in range(count):
            choices = random.Random(self.choices.random())
            channels = [choices.choice(CHANNELS[kind]) for kind in JOINED]
            rooms = choices.sample(CHANNELS["rooms"], 2)
            name = (f"account-{number % 50}", f"session-{number}")
            kind = KINDS[number % len(KINDS)]
            self.add(Member(kind, lambda: self.nginx.port, name, self.write, choices, channels, rooms))

    def empty(self) -> None:
        """Write down that Redis loses what it has."""
        self.write(Emptied(time.monotonic()))

    def findings(self) -> list[str]:
        """Return the promises that were broken."""
        return findings(self.records(), replace(LIMITS, history=HISTORY))

    async def until_all_in(self, seconds: float) -> None:
        """Wait until each client was in all of its channels at some moment from now on."""
        deadline = time.monotonic() + seconds
        outside = self.members
        while outside := [each for each in outside if not each.is_everywhere]:
            names = [(each.name, each.kind, each.sid, [*each.channels]) for each in outside]
            assert time.monotonic() < deadline, f"after {seconds} s these were not in their channels: {names}"
            await asyncio.sleep(0.05)

    async def until_all_see_all(self, seconds: float) -> None:
        """Wait until everybody sees who is in the channels; write down what is seen then, or at the end of the time."""
        deadline = time.monotonic() + seconds
        while True:
            quiet = await self._look_into_channels()
            if not any(compare_presence(quiet, "")) or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.2)
        for record in quiet.said:
            if not isinstance(record, Named | Counted):  # servers have written down their own
                self.write(record)
        self.write(Settled(time.monotonic()))

    async def _look_into_channels(self) -> Quiet:
        seated = [each for server in self.servers for each in await self._read(server, "/seated")]
        named = [each for server in self.servers for each in await self._read(server, "/named")]
        shown = [each for member in self.members for each in member.shown()]
        seats = {each.node: each for each in seated if isinstance(each, Seated)}
        said = [each for each in named if isinstance(each, Named | Counted)]
        return Quiet(time.monotonic(), seats, [*said, *shown])

    @staticmethod
    async def _read(server: Server, path: str) -> list[AnyRecord]:
        response = await fetch(server.port, "GET", path)
        assert response.status == 200, response
        return decode_records(response.body.splitlines())

    async def all_servers(self, path: str) -> None:
        """Ask all servers for something."""
        await asyncio.gather(*(server.ask(path) for server in self.servers))


@asynccontextmanager
async def channel_scene(folder: Path, place: str, seed: int) -> AsyncIterator[ChannelScene]:
    """Run three servers behind nginx on such a store."""
    files = files_in(folder, seed)
    async with AsyncExitStack() as stack:
        store = stack.enter_context(STORES[place]())
        servers = []
        for number in range(3):
            given = {
                **given_to(files, seed * 10 + number),
                "redis": store.place,
                "channels": CHANNELS,
                "history": HISTORY,
                "pace": PACE,
            }
            servers.append(Server(lasting_port(), given, PROGRAM))
        nginx = await stack.enter_async_context(nginx_before([server.port for server in servers]))
        made = ChannelScene(store, servers, nginx, *files, seed)
        await stack.enter_async_context(playing(made))
        yield made

"""
A server with rooms and channels to which it sends all the time, and writes down what becomes of it.

What it is comes as JSON on the command line.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
from typing import Any, Final

from primacron import HttpRequest, Primacron, Session
from primacron.cluster.errors import BackendUnavailable
from primacron.testing.promises import AnyRecord, Counted, Named, Witness, encode_record
from tests.promises.reporter import Reporter
from tests.support.places import HOST, connect

#: Seconds for which channels keep their messages.
KEEP: Final = 600

given: dict[str, Any] = json.loads(sys.argv[1])
server = Primacron(connect(given["redis"]), given["options"])
#: The channels of each kind; and seconds between two sends, or questions, to one of a kind.
channels: dict[str, list[str]] = given["channels"]
pace: dict[str, float] = given["pace"]
choices = random.Random(given["seed"])
reporter = Reporter(server, given)
#: The last answers to questions who is in a channel.
answers: dict[tuple[type[AnyRecord], str], AnyRecord] = {}


def write(record: AnyRecord) -> None:
    """Write down what happens."""
    reporter.write(record)
    if isinstance(record, Named | Counted):
        answers[type(record), record.channel] = record


witness = Witness(server, write)
reporter.show_sessions(witness)


@server.uuid
def name(request: HttpRequest) -> str:
    """Name a session as its client asks for."""
    return request.query["session"]


@server.on("connection")
def connected(session: Session) -> None:
    """Put a session into its rooms."""
    for room in filter(None, session.query["rooms"].split(",")):
        witness.join(session, room)


server.channels("lot:{number}", history=given["history"], keep=KEEP)
server.channels("hall:{number}", history=given["history"], keep=KEEP, presence=True)


@server.event("say")
def say(session: Session, number: int) -> None:
    """Take a numbered message of a client."""
    witness.handled(session, number)


async def ask(what: str) -> None:
    """Send to a channel of a kind, or ask who is there."""
    if what in channels:
        witness.send(server.channel(choices.choice(channels[what])))
    else:
        everything = [channel for each in channels.values() for channel in each]
        with contextlib.suppress(BackendUnavailable):  # that is an answer
            await witness.count(choices.choice(everything))
            await witness.members(choices.choice(channels["halls"]))


async def go_on(what: str) -> None:
    """Ask again and again."""
    while server.is_started:
        await asyncio.sleep(pace[what] * choices.uniform(0.5, 1.5))
        if server.is_started:
            await ask(what)


tasks: list[asyncio.Task[None]] = []


@server.get("/begin")
def begin(request: HttpRequest) -> str:
    """Begin to send."""
    tasks.append(asyncio.create_task(reporter.watch()))
    tasks.extend(asyncio.create_task(go_on(what)) for what in pace)
    return "true"


@server.get("/rest")
async def rest(request: HttpRequest) -> str:
    """Send nothing any more."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    tasks.clear()
    return "true"


@server.get("/seated")
def seated(request: HttpRequest) -> bytes:
    """Tell who is in which channels here."""
    return encode_record(witness.seated())


@server.get("/named")
async def named(request: HttpRequest) -> bytes:
    """Tell how many are in each channel, and who; what cannot be told now is left out."""
    answers.clear()
    for channel in [channel for each in channels.values() for channel in each]:
        with contextlib.suppress(BackendUnavailable):
            await witness.count(channel)
    for channel in channels["halls"]:
        with contextlib.suppress(BackendUnavailable):
            await witness.members(channel)
    return b"".join(map(encode_record, answers.values()))


if __name__ == "__main__":
    server.run(given["port"], HOST)

"""
A server that sends to everybody all the time, and writes down what becomes of it.

What it is comes as JSON on the command line. ``plants`` are promises that it is
to break, so that a test can see whether that is found.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from typing import Final

from primacron import HttpRequest, Primacron, Session
from primacron.cluster.errors import BackendUnavailable
from primacron.receipts import Delivery, Reach, Receipt
from primacron.routing.targets import AccountTarget, ChannelsTarget, Everyone, SessionTarget
from primacron.testing.promises import EVENT, Reached, Sent, Told, Witness
from tests.promises.reporter import Reporter

#: Seconds between two sends, or questions, of a kind.
PACE: Final = {"session": 0.05, "account": 0.3, "everyone": 0.7, "find": 0.3, "sessions": 1.0}
#: One of so many sends breaks each promise that it is to break.
RARE: Final = 20

given = json.loads(sys.argv[1])
server = Primacron(given["redis"], given["options"])
names: list[tuple[str, str]] = [(account, session) for account, session in given["names"]]
plants: list[str] = given["plants"]
choices = random.Random(given["seed"])
reporter = Reporter(server, given)
write = reporter.write


class Liar(Witness):
    """Breaks promises."""

    def send(
        self, target: SessionTarget | AccountTarget | Everyone | ChannelsTarget
    ) -> Delivery[Receipt] | Delivery[Reach]:
        """Send, or say so."""
        if not isinstance(target, SessionTarget) or choices.randrange(RARE) or not plants:
            return super().send(target)
        plant, mark = choices.choice(plants), self.next_mark("session")
        write(Sent(time.monotonic(), mark, target.account, target.id))
        if plant == "says accepted":
            write(Told(time.monotonic(), mark, "accepted", True))
        elif plant == "sends twice":
            target.emit(EVENT, *mark)
            target.emit(EVENT, *mark)
        elif plant == "changes the order":
            super().send(target)
            target.emit(EVENT, *mark)
        return super().send(target)

    def answered(self, answer: Told | Reached) -> None:
        """Write down an answer, or another one."""
        match answer:
            case Told(at, mark, "accepted") if "says unsent" in plants and not mark.number % RARE:
                answer = Told(at, mark, "unsent", certain=True)
            case Reached(at, mark, nodes, sessions, True) if "counts too few" in plants and not mark.number % 3:
                answer = Reached(at, mark, nodes, sessions - 1, certain=True)
        super().answered(answer)


witness = Liar(server, write) if plants else Witness(server, write)
reporter.show_sessions(witness)


@server.uuid
def name(request: HttpRequest) -> str:
    """Name a session as its client asks for."""
    return request.query["session"]


@server.event("say")
def say(session: Session, number: int) -> None:
    """Take a numbered message of a client."""
    witness.handled(session, number)


async def ask(kind: str) -> None:
    """Send something, or ask for something."""
    account, session = choices.choice(names)
    try:
        if kind == "session":
            witness.send(server.session(account, session))
        elif kind == "account":
            witness.send(server.account(account))
        elif kind == "everyone":
            witness.send(server.everyone)
        elif kind == "find":
            await witness.find(account, session)
        else:
            await witness.sessions(choices.choice([account, ""]))
    except BackendUnavailable:
        pass  # that is an answer


async def go_on(kind: str) -> None:
    """Ask again and again."""
    while server.is_started:
        await asyncio.sleep(PACE[kind] * given["slowness"] * choices.uniform(0.5, 1.5))
        if server.is_started:
            await ask(kind)


tasks: list[asyncio.Task[None]] = []


@server.get("/begin")
def begin(request: HttpRequest) -> str:
    """Begin to send."""
    tasks.append(asyncio.create_task(reporter.watch()))
    tasks.extend(asyncio.create_task(go_on(kind)) for kind in PACE)
    return "true"


@server.get("/probe")
async def probe(request: HttpRequest) -> str:
    """Send to each session, and to everyone, of whom there are ``count``; tell what did not get through."""
    count = int(request.query["count"])
    began = time.monotonic()
    deliveries = [(str(each), witness.send(server.session(*each))) for each in names]
    deliveries += [("everyone", witness.send(server.everyone))]
    wrong = []
    for whom, delivery in deliveries:
        outcome = await delivery
        if not (outcome.ok if isinstance(outcome, Receipt) else outcome.certain and outcome.sessions == count):
            wrong.append(f"{whom}: {outcome} after {time.monotonic() - began:.2f} s")
    try:
        wrong += [f"{each}: not found" for each in names if await witness.find(*each) is None]
    except BackendUnavailable as error:
        wrong.append(str(error))
    return json.dumps(wrong)


if __name__ == "__main__":
    server.run(given["port"], "127.0.0.1")

"""Writes down what a server and its clients do; :func:`primacron.testing.promises.findings` reads it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

from primacron.application import Primacron
from primacron.receipts import Delivery, Reach, Receipt
from primacron.sessions.session import Session
from primacron.targets import AccountTarget, Everyone, SessionInfo, SessionTarget
from primacron.testing.client import Client, Received
from primacron.testing.promises.records import (
    EVENT,
    AnyRecord,
    Arrived,
    Began,
    Closed,
    Ended,
    Found,
    Handled,
    Holds,
    Listed,
    Mark,
    Opened,
    Place,
    Reached,
    Sent,
    Told,
)


class Witness:
    """
    Writes down what a server sends, answers and hears.

    ``write`` gets each record: ``list.append``, or a function that appends
    ``encode_record(record)`` to a file. ``clock`` is the same for all witnesses.
    """

    def __init__(
        self, server: Primacron, write: Callable[[AnyRecord], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._server = server
        self._write = write
        self._clock = clock
        self._numbers = itertools.count(1)
        server.on("connection", lambda session: self._began(session, moved=False))
        server.on("arrived", lambda session: self._began(session, moved=True))
        server.on("disconnection", lambda session, reason: self._ended(session, reason, moved=False))
        server.on("leaving", lambda session: self._ended(session, "", moved=True))

    @property
    def _node(self) -> str:
        return self._server.node.id

    def _began(self, session: Session, *, moved: bool) -> None:
        self._write(Began(self._clock(), self._node, session.entry.sid, session.account, session.id, moved))

    def _ended(self, session: Session, reason: str, *, moved: bool) -> None:
        self._write(Ended(self._clock(), self._node, session.entry.sid, reason, moved))

    def handled(self, session: Session, number: int) -> None:
        """Write down that a handler got a message of a client, which numbers those of each connection from 1."""
        self._write(Handled(self._clock(), self._node, session.entry.sid, number))

    def send(self, target: SessionTarget | AccountTarget | Everyone) -> Delivery[Receipt] | Delivery[Reach]:
        """Send a numbered message to a target, and write down what becomes of it."""
        if isinstance(target, SessionTarget):
            mark, account, session = self.next_mark("session"), str(target.account), str(target.id)
        elif isinstance(target, AccountTarget):
            mark, account, session = self.next_mark("account"), str(target.account), ""
        else:
            mark, account, session = self.next_mark("everyone"), "", ""
        self._write(Sent(self._clock(), mark, account, session))
        delivery: Delivery[Receipt] | Delivery[Reach] = target.emit(EVENT, *mark, receipt=True)
        delivery.add_done_callback(lambda done: self._done(mark, done))
        return delivery

    def next_mark(self, kind: str) -> Mark:
        """Return the mark of one more send."""
        return Mark(self._node, kind, next(self._numbers))

    def _done(self, mark: Mark, done: Any) -> None:
        if done.cancelled() or done.exception() is not None:
            return
        outcome: Receipt | Reach = done.result()
        if isinstance(outcome, Receipt):
            self.answered(Told(self._clock(), mark, outcome.status, outcome.certain))
        else:
            reached = Reached(self._clock(), mark, outcome.nodes, outcome.sessions, outcome.certain, outcome.missing)
            self.answered(reached)

    def answered(self, answer: Told | Reached) -> None:
        """Write down what became of a send."""
        self._write(answer)

    async def find(self, account: str, session: str) -> SessionInfo | None:
        """
        Ask where a session is, and write down the answer.

        Raises:
            BackendUnavailable: if the other servers cannot be asked now.

        """
        asked = self._clock()
        found = await self._server.find(account, session)
        self._write(Found(self._clock(), asked, self._node, account, session, found.node if found else ""))
        return found

    async def sessions(self, account: str = "") -> list[SessionInfo]:
        """
        Ask for the sessions of an account, or of everyone, and write down the answer.

        Raises:
            BackendUnavailable: if the other servers cannot be asked now.

        """
        asked = self._clock()
        target = self._server.account(account) if account else self._server.everyone
        found = await target.sessions()
        places = tuple(Place(each.account, each.id, each.node) for each in found)
        self._write(Listed(self._clock(), asked, self._node, account, places))
        return found

    def holds(self) -> Holds:
        """Write down which sessions the server has; return the record."""
        sessions = tuple((each.account, each.id, each.entry.sid) for each in self._server.node.hub.sessions)
        record = Holds(self._clock(), self._node, sessions)
        self._write(record)
        return record


class ClientWitness:
    """Writes down what a client without a socket gets; ``account`` and ``session`` are who it is."""

    def __init__(
        self,
        client: Client,
        account: str,
        session: str,
        write: Callable[[AnyRecord], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._write = write
        self._clock = clock
        self._sid = str(client.opened["sid"])
        write(Opened(clock(), self._sid, account, session))

    def take(self, received: Received) -> bool:
        """Write down an event, if it is one of those that a :class:`Witness` sends; tell whether it is."""
        if received.event != EVENT:
            return False
        sender, kind, number = received.args
        self._write(Arrived(self._clock(), self._sid, Mark(sender, kind, number)))
        return True

    async def take_all(self) -> list[Received]:
        """Write down all that has come; return the events of others."""
        others = []
        while not self._client.is_quiet:
            received = await self._client.receive()
            if not self.take(received):
                others.append(received)
        return others

    async def close(self) -> None:
        """Let the client go away."""
        self._write(Closed(self._clock(), self._sid, "left"))
        await self._client.close()

"""Records what a server and its clients do, for :func:`primacron.testing.promises.findings` to judge."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

from primacron.application import Primacron
from primacron.features.channels.members import Members
from primacron.receipts import Delivery, Reach, Receipt
from primacron.routing.targets import AccountTarget, ChannelsTarget, Everyone, SessionInfo, SessionTarget
from primacron.sessions.session import Session
from primacron.testing.client import Client, Received
from primacron.testing.promises.records import (
    EVENT,
    AnyRecord,
    Arrived,
    Began,
    Closed,
    Counted,
    Ended,
    Entered,
    Exited,
    Found,
    Handled,
    Holds,
    Listed,
    Mark,
    Named,
    Opened,
    Place,
    Reached,
    Seated,
    Sent,
    Told,
)


class Witness:
    """
    Records what a server sends, answers and emits.

    ``write`` receives each record: ``list.append``, or a function that appends
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
        server.on("channel::join", self._entered)
        server.on("channel::leave", self._exited)

    @property
    def _node(self) -> str:
        return self._server.node.id

    def _began(self, session: Session, *, moved: bool) -> None:
        self._write(Began(self._clock(), self._node, session.entry.sid, session.account, session.id, moved))

    def _ended(self, session: Session, reason: str, *, moved: bool) -> None:
        self._write(Ended(self._clock(), self._node, session.entry.sid, reason, moved))

    def _entered(self, session: Session, name: str) -> None:
        self._write(Entered(self._clock(), self._node, session.entry.sid, name))

    def _exited(self, session: Session, name: str) -> None:
        self._write(Exited(self._clock(), self._node, session.entry.sid, name))

    def join(self, session: Session, name: str) -> Delivery[Receipt]:
        """Put a session of this node into a channel, and record when the node hears it."""
        delivery = session.join(name)
        delivery.add_done_callback(lambda done: self._heard(session, name, done))
        return delivery

    def _heard(self, session: Session, name: str, done: Delivery[Receipt]) -> None:
        if not done.cancelled() and done.result().ok:
            self._write(Entered(self._clock(), self._node, session.entry.sid, name, heard=True))

    def handled(self, session: Session, number: int) -> None:
        """Record that a handler received a client's message; clients number theirs from 1 for each connection."""
        self._write(Handled(self._clock(), self._node, session.entry.sid, number))

    def send(
        self, target: SessionTarget | AccountTarget | Everyone | ChannelsTarget
    ) -> Delivery[Receipt] | Delivery[Reach]:
        """Send a numbered message to a target, if it is channels to a single one, and record its outcome."""
        if isinstance(target, SessionTarget):
            mark, account, session = self.next_mark("session"), str(target.account), str(target.id)
        elif isinstance(target, AccountTarget):
            mark, account, session = self.next_mark("account"), str(target.account), ""
        elif isinstance(target, ChannelsTarget):
            [name] = target.names
            mark, account, session = self.next_mark(f"channel:{name}"), "", ""
        else:
            mark, account, session = self.next_mark("everyone"), "", ""
        self._write(Sent(self._clock(), mark, account, session))
        delivery: Delivery[Receipt] | Delivery[Reach] = target.emit(EVENT, *mark, receipt=True)
        delivery.add_done_callback(lambda done: self._done(mark, done))
        return delivery

    def next_mark(self, kind: str) -> Mark:
        """Return the mark of the next send."""
        return Mark(self._node, kind, next(self._numbers))

    def _done(self, mark: Mark, done: Any) -> None:
        if done.cancelled() or done.exception() is not None:
            return
        outcome: Receipt | Reach = done.result()
        if isinstance(outcome, Receipt):
            self.answered(Told(self._clock(), mark, outcome.status, outcome.certain))
        else:
            counts = outcome.nodes, outcome.sessions, outcome.certain, outcome.missing
            position = outcome.position
            epoch, offset = ("", 0) if position is None else (position.epoch, position.offset)
            self.answered(Reached(self._clock(), mark, *counts, epoch, offset))

    def answered(self, answer: Told | Reached) -> None:
        """Record the outcome of a send."""
        self._write(answer)

    async def find(self, account: str, session: str) -> SessionInfo | None:
        """
        Look up a session, and record the answer.

        Raises:
            BackendUnavailable: if the other servers cannot be asked now.

        """
        asked = self._clock()
        found = await self._server.find(account, session)
        self._write(Found(self._clock(), asked, self._node, account, session, found.node if found else ""))
        return found

    async def sessions(self, account: str = "") -> list[SessionInfo]:
        """
        List the sessions of an account, or of everyone, and record the answer.

        Raises:
            BackendUnavailable: if the other servers cannot be asked now.

        """
        asked = self._clock()
        target = self._server.account(account) if account else self._server.everyone
        found = await target.sessions()
        places = tuple(Place(each.account, each.id, each.node) for each in found)
        self._write(Listed(self._clock(), asked, self._node, account, places))
        return found

    async def count(self, channel: str) -> Reach:
        """Count the sessions in a channel, and record the answer."""
        asked = self._clock()
        counted = await self._server.channel(channel).count()
        self._write(Counted(self._clock(), asked, self._node, channel, counted.sessions, counted.certain))
        return counted

    async def members(self, channel: str) -> Members:
        """List the members of a channel with presence, and record the answer."""
        asked = self._clock()
        members = await self._server.channel(channel).members()
        names = tuple((each.account, each.session) for each in members)
        self._write(Named(self._clock(), asked, self._node, channel, names, members.certain))
        return members

    def seated(self) -> Seated:
        """Record which sessions the server has in which channels; return the record."""
        sessions = self._server.node.hub.sessions
        seats = tuple(
            (name, each.account, each.id, each.entry.sid) for each in sessions for name in sorted(each.channels)
        )
        record = Seated(self._clock(), self._node, seats)
        self._write(record)
        return record

    def holds(self) -> Holds:
        """Record which sessions the server has; return the record."""
        sessions = tuple((each.account, each.id, each.entry.sid) for each in self._server.node.hub.sessions)
        record = Holds(self._clock(), self._node, sessions)
        self._write(record)
        return record


class ClientWitness:
    """Records what a client without a socket receives; ``account`` and ``session`` identify it."""

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
        """Record an event if it was sent by a :class:`Witness`; tell whether it was."""
        if received.event != EVENT:
            return False
        sender, kind, number = received.args
        self._write(Arrived(self._clock(), self._sid, Mark(sender, kind, number)))
        return True

    async def take_all(self) -> list[Received]:
        """Record everything received so far; return the other events."""
        others = []
        while not self._client.is_quiet:
            received = await self._client.receive()
            if not self.take(received):
                others.append(received)
        return others

    async def close(self) -> None:
        """Disconnect the client."""
        self._write(Closed(self._clock(), self._sid, "left"))
        await self._client.close()

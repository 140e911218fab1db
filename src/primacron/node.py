"""One node of the cluster: this process' sessions, introduced to what processes share."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Protocol

from primacron.cluster.base import Bus, Entry, Registry
from primacron.cluster.wire import CloseReplaced
from primacron.config import Options
from primacron.dialects.base import Dialect
from primacron.dialects.choice import Dialects
from primacron.errors import ConnectFailed, DisconnectFailed, Overloaded, PrimacronError, SessionTaken
from primacron.ids import AccountId, SessionId, Sid, SidIssuer, new_node_id
from primacron.metrics import Metrics
from primacron.protocol.closing import REPLACED, SHUTDOWN
from primacron.protocol.engine import Phase
from primacron.protocol.handshake import Format, OpenPackets
from primacron.sessions.carrier import Carrier
from primacron.sessions.connection import Connection
from primacron.sessions.eager import Eager
from primacron.sessions.hub import Hub, Receiver
from primacron.sessions.limits import Limits
from primacron.sessions.session import Session
from primacron.web import HttpRequest

#: Seconds that cancelled tasks have to end.
CANCEL_TIMEOUT: Final = 1.0


class Application(Receiver, Protocol):
    """What the server decides for the node."""

    async def authorize(self, request: HttpRequest) -> str | None:
        """Return an account in the place of the query's, or None; raise Refused to turn the request away."""

    async def name_session(self, request: HttpRequest) -> str:
        """Return the id of a new session."""


@dataclass(frozen=True, slots=True)
class Applicant:
    """What a handshake asks for, checked as far as it can be without asking anybody."""

    request: HttpRequest
    account: AccountId
    format: Format
    dialect: Dialect


@dataclass(frozen=True, slots=True)
class Admission:
    """A handshake that was let in; it has its place in the registry."""

    applicant: Applicant
    account: AccountId
    entry: Entry


class Node:
    """The sessions of this process, its place in the cluster, and what is needed to open a connection."""

    def __init__(
        self, options: Options, application: Application, registry: Registry, bus: Bus, metrics: Metrics
    ) -> None:
        self.id = new_node_id()
        self.options = options
        self.application = application
        self.registry = registry
        self.bus = bus
        self.metrics = metrics
        self.loop = asyncio.get_running_loop()
        self.hub = Hub(options, self.loop, application, metrics)
        self.eager = Eager(self.loop)
        self.issuer = SidIssuer(secrets.token_bytes(32))
        self.dialects = Dialects(options)
        self.open_packets = OpenPackets(options)
        self._limits = Limits(options)
        # Admissions that are not opened yet, by the sid that they were promised.
        self._admitted: set[Sid] = set()
        self._working: set[asyncio.Task[Any]] = set()
        self._excused: set[asyncio.Task[Any]] = set()
        self._is_leaving = False
        self._is_hurried = False

    async def join(self) -> None:
        """Take part in the cluster."""
        await self.bus.join(self.id, self._on_bus)
        self.hub.wheel.watch_lag()

    def end_sessions(self) -> None:
        """End all connections, and let nobody in any more."""
        self._is_leaving = True
        for connection in tuple(self.hub.connections.values()):
            connection.end(SHUTDOWN)

    async def finish(self, deadline: float) -> None:
        """Wait for what is under way and for what that has left to do; cancel what still is at the deadline."""
        await asyncio.sleep(0)  # what was begun just now takes its first step, and most need no other
        # Again and again: behind the handler that runs, other messages and the end of the session may wait for theirs.
        while (work := self._work()) and not self._is_hurried and (left := deadline - self.loop.time()) > 0:
            await asyncio.wait(work, timeout=left)
        deadline = self.loop.time() + CANCEL_TIMEOUT
        while (work := self._work()) and (left := deadline - self.loop.time()) > 0:
            self._cancel_work()
            await asyncio.wait(work, timeout=left)

    def excuse(self, task: asyncio.Task[Any] | None) -> None:
        """Let :meth:`finish` not wait for a task, which waits for it."""
        if task is not None:
            self._excused.add(task)

    def hurry(self) -> None:
        """Cancel the handlers and hooks that run; :meth:`finish` waits for none any more."""
        self._is_hurried = True
        self._cancel_work()

    def _work(self) -> set[asyncio.Task[Any]]:
        return self._working - self._excused

    def _cancel_work(self) -> None:
        for task in self._work():
            task.cancel()

    async def leave(self) -> None:
        """Take part in the cluster no longer; the last packets of polling clients are lost now."""
        await self.bus.leave(self.id)
        self.hub.close()
        self.eager.close()

    def track(self, task: asyncio.Task[Any]) -> None:
        """Let :meth:`leave` wait for a task."""
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    def run(
        self, work: Coroutine[Any, Any, Any], done: Callable[[Any, BaseException | None], None]
    ) -> asyncio.Task[Any] | None:
        """Run a coroutine, without a task if it does not wait, and pass on what it returned or raised."""
        try:
            task = self.eager.start(work)
        except (Exception, asyncio.CancelledError) as error:
            done(None, error)
            return None
        if task is None:
            done(self.eager.value, None)
            return None
        self.track(task)
        task.add_done_callback(lambda finished: self._finished(finished, done))
        return task

    @staticmethod
    def _finished(task: asyncio.Task[Any], done: Callable[[Any, BaseException | None], None]) -> None:
        if task.cancelled():
            done(None, asyncio.CancelledError())
        else:
            error = task.exception()
            done(None if error is not None else task.result(), error)

    # Opening a connection

    async def admit(self, applicant: Applicant) -> Admission:
        """
        Ask the application and the registry to let a connection in.

        Raises:
            Refused: if the application, a limit or ``same_session`` turns it away.
            ConnectFailed: if the registry does not store the session.

        """
        request = applicant.request
        self._limits.enter(request.peer, self.loop.time())
        try:
            account = AccountId(await self.application.authorize(request) or applicant.account)
            session = SessionId(await self.application.name_session(request))
            entry = await self._claim(account, session)
        except BaseException:
            self._limits.leave(request.peer)
            raise
        self._admitted.add(entry.sid)
        return Admission(applicant, account, entry)

    async def _claim(self, account: AccountId, session: SessionId) -> Entry:
        replace = self.options.same_session == "replace"
        sid = self.issuer.issue()
        try:
            entry, replaced = await self.registry.claim(account, session, self.id, sid, replace=replace)
        except PrimacronError:
            raise
        except Exception as error:
            raise ConnectFailed(session) from error
        if replaced is None:
            return entry
        if replaced.node == self.id:
            self._close_replaced(replaced.sid)
        else:
            await self.bus.publish(self.id, replaced.node, CloseReplaced(replaced.sid).encode())
        return entry

    def _close_replaced(self, sid: Sid) -> None:
        self._admitted.discard(sid)
        connection = self.hub.connections.get(sid)
        if connection is not None:
            connection.end(REPLACED)

    def withdraw(self, admission: Admission) -> None:
        """Undo an admission whose client went away meanwhile."""
        self._admitted.discard(admission.entry.sid)
        self._limits.leave(admission.applicant.request.peer)
        self._release(admission.account, admission.entry)

    def confirm(self, admission: Admission) -> None:
        """
        Check that an admission still counts, right before its connection is opened.

        Raises:
            SessionTaken: if a later one of the same session has replaced it meanwhile.
            Overloaded: if the server has begun to end.

        """
        if admission.entry.sid not in self._admitted:
            raise SessionTaken(admission.entry.id)
        if self._is_leaving:
            raise Overloaded("the server is ending")

    def open(self, admission: Admission, carrier: Carrier, phase: Phase) -> Connection:
        """Make the session and the connection of an admission."""
        applicant, entry = admission.applicant, admission.entry
        request = applicant.request
        session = Session(self.hub, admission.account, entry.id, request.peer, request.query_string)
        session.entry = entry
        connection = Connection(self.hub, entry.sid, session, carrier, applicant.dialect, applicant.format, phase)
        session.connection = connection
        self._admitted.discard(entry.sid)
        self.hub.add(session, connection)
        return connection

    # Ending one

    def forget(self, session: Session) -> None:
        """Give a session's place in the registry back."""
        self._limits.leave(session.peer)
        self._release(session.account, session.entry)

    def _release(self, account: AccountId, entry: Entry) -> None:
        def released(_: Any, error: BaseException | None) -> None:
            if error is not None:
                failure = DisconnectFailed(entry.id)
                failure.__cause__ = error
                self.application.problem(failure, key=(account, entry.id), value=entry.sid)

        self.run(self.registry.release(account, entry), released)

    # From other nodes

    def _on_bus(self, body: bytes) -> None:
        """Take a message of another node; what cannot be read is counted and dropped."""
        try:
            message = CloseReplaced.decode(body)
        except ValueError:
            self.metrics.count("bus_messages_unreadable")
        else:
            self._close_replaced(message.sid)

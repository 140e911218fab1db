"""Handshakes: who may come in, under which name, and what the registry knows of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from primacron.cluster.base import BackendUnavailable, Claim, Outcome, Swapped
from primacron.cluster.cluster import Cluster
from primacron.cluster.requests import NODE_GONE, TIMED_OUT
from primacron.cluster.wire import Answer, Replace, Request
from primacron.config import Options
from primacron.dialects.base import Dialect
from primacron.entries import Entry, Name
from primacron.errors import ConnectFailed, DisconnectFailed, Overloaded, Refused, SessionTaken
from primacron.ids import AccountId, NodeId, SessionId, Sid, SidIssuer, new_session_id
from primacron.node.following import Follower, Following
from primacron.node.journeys import Journeys
from primacron.protocol.closing import REPLACED
from primacron.protocol.engine import Phase
from primacron.protocol.handshake import Format
from primacron.sessions.carrier import Carrier
from primacron.sessions.connection import Connection
from primacron.sessions.hub import Hub
from primacron.sessions.limits import Limits
from primacron.sessions.session import Session
from primacron.web import HttpRequest

try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython

if TYPE_CHECKING:
    from primacron.node.giving import Givings
    from primacron.node.node import Application

#: Seconds after which another node is asked again to close what was replaced.
ASK_AGAIN = 2.0


class Applicant(msgspec.Struct):
    """What a handshake asks for, checked as far as it can be without asking anybody."""

    request: HttpRequest
    account: AccountId
    format: Format
    dialect: Dialect


class Admission(msgspec.Struct):
    """A handshake that was let in; its place in the registry is ``entry``, unless that could not be asked."""

    applicant: Applicant
    account: AccountId
    entry: Entry
    followers: tuple[bytes, ...] = ()
    is_registered: bool = True

    @property
    def name(self) -> Name:
        """The session by account and id."""
        return self.account, self.entry.id


class Admissions:
    """The handshakes of a node, from the application's decision to the connection."""

    if not cython.compiled:
        __slots__ = (
            "_application",
            "_claiming",
            "_following",
            "_generation",
            "_hub",
            "_issuer",
            "_limits",
            "_node",
            "_options",
            "_pending",
            "_run",
            "cluster",
            "givings",
            "is_closed",
            "journeys",
            "unregistered",
        )

    def __init__(
        self,
        options: Options,
        hub: Hub,
        application: Application,
        issuer: SidIssuer,
        node: NodeId,
        following: Following,
        run: Callable[[Coroutine[Any, Any, Any]], object],
    ) -> None:
        self._options = options
        self._hub = hub
        self._application = application
        self._issuer = issuer
        self._node = node
        self._following = following
        self._run = run
        self._limits = Limits(options)
        #: Who was let in and has no connection yet.
        self._pending: dict[Name, Entry] = {}
        #: Names that the registry is being asked for.
        self._claiming: Counter[Name] = Counter()
        #: Sessions that the registry does not know, because it was away.
        self.unregistered: set[Session] = set()
        self._generation = 0
        self.cluster: Cluster | None = None
        self.givings: Givings | None = None
        #: Sessions that are on their way.
        self.journeys = Journeys()
        self.is_closed = False

    @property
    def asks_nobody(self) -> bool:
        """Whether neither the application nor a registry has a word in who is let in."""
        return self.cluster is None and not self._application.has_hooks

    def admit_now(self, applicant: Applicant) -> Admission:
        """
        Let a connection in without asking anybody.

        Raises:
            Refused: if a limit or ``same_session`` turns it away.

        """
        if self.is_closed:
            raise Overloaded("the server is ending")
        self._limits.enter(applicant.request.peer, self._hub.loop.time())
        try:
            return self._admit_here(applicant, applicant.account, new_session_id())
        except Refused:
            self._limits.leave(applicant.request.peer)
            raise

    async def admit(self, applicant: Applicant) -> Admission:
        """
        Ask the application and the registry to let a connection in.

        Raises:
            Refused: if the application, a limit or ``same_session`` turns it away.

        """
        request = applicant.request
        self._limits.enter(request.peer, self._hub.loop.time())
        try:
            account = AccountId(await self._application.authorize(request) or applicant.account)
            session = SessionId(await self._application.name_session(request))
            if self.cluster is None:
                return self._admit_here(applicant, account, session)
            return await self._admit_everywhere(self.cluster, applicant, (account, session))
        except BaseException:
            self._limits.leave(request.peer)
            self._rest()
            raise

    # Without other nodes

    def _admit_here(self, applicant: Applicant, account: AccountId, session: SessionId) -> Admission:
        name = (account, session)
        entry = self._pending[name] = self._claim_here(name, self._issuer.issue())
        return Admission(applicant, account, entry)

    def _claim_here(self, name: Name, sid: Sid) -> Entry:
        before = self._holder(name)
        if before is not None:
            if self._options.same_session == "refuse":
                raise SessionTaken(name[1])
            self._close(name, before)
        self._generation += 1
        return Entry(name[1], self._node, self._generation, sid)

    def _holder(self, name: Name) -> Entry | None:
        pending = self._pending.get(name)
        if pending is not None:
            return pending
        session = self._hub.sessions.get(*name)
        return session.entry if session is not None else None

    def _close(self, name: Name, entry: Entry) -> None:
        """Close what another claim has replaced."""
        if self._pending.get(name) is entry:
            del self._pending[name]
        session = self._hub.sessions.get(*name)
        if session is not None and session.entry == entry and session.connection is not None:
            session.connection.end(REPLACED)

    # With others

    async def _admit_everywhere(self, cluster: Cluster, applicant: Applicant, name: Name) -> Admission:
        self._claiming[name] += 1
        try:
            admission = await self._claim(cluster, applicant, name, self._issuer.issue())
        finally:
            self._claiming -= Counter([name])
        self._pending[name] = admission.entry
        return admission

    async def _claim(self, cluster: Cluster, applicant: Applicant, name: Name, sid: Sid) -> Admission:
        await cluster.attend()
        try:
            claim = await self._register(cluster, name, sid)
        except BackendUnavailable as error:
            return self._admit_unregistered(applicant, name, sid, error)
        assert claim.entry is not None
        before = claim.before
        if before is not None and before.node == self._node:
            self._close(name, before)
        elif before is not None:
            self._ask_to_close(cluster, name, before, claim.entry)
        return Admission(applicant, name[0], claim.entry, tuple(claim.followers))

    async def _register(self, cluster: Cluster, name: Name, sid: Sid) -> Claim:
        replace = self._options.same_session == "replace"
        ask, registry = cluster.link.ask, cluster.registry
        while True:
            claim = await ask(registry.claim, *name, self._node, sid, replace=replace)
            before = claim.before
            if claim.entry is not None or before is None:
                return claim
            if cluster.lives(before.node) is not None:
                raise SessionTaken(name[1])
            # Its node has died, so nobody has the session.
            entry = Entry(name[1], self._node, max(before.generation + 1, _now()), sid)
            swapped = await ask(registry.swap, name[0], before, entry)
            if swapped.outcome is Outcome.DONE:
                # Nobody else gets it from here on; this claim in the place of the own one tells the followers.
                claim = await ask(registry.claim, *name, self._node, sid)
                return Claim(claim.entry, None, claim.followers)

    def _admit_unregistered(self, applicant: Applicant, name: Name, sid: Sid, cause: BackendUnavailable) -> Admission:
        """Let a client in although the other nodes will not find it, until the registry is back."""
        if self._options.without_redis == "refuse":
            raise Overloaded("the registry of sessions is away") from cause
        entry = Entry(name[1], self._node, _now(), sid)
        before = self._holder(name)
        if before is not None:
            self._close(name, before)
        failure = ConnectFailed(name[1])
        failure.__cause__ = cause
        self._application.problem(failure, key=name, value=sid, request=applicant.request)
        return Admission(applicant, name[0], entry, is_registered=False)

    def _ask_to_close(self, cluster: Cluster, name: Name, before: Entry, entry: Entry) -> None:
        """Ask the node that held the session to close it, until it answers or is gone."""
        if cluster.lives(before.node) is None:
            return

        def make(id: int) -> Request:
            return Replace(id, self._node, *name, before.sid, entry.generation)

        def settled(answer: Answer) -> None:
            if answer.status == TIMED_OUT:
                self._ask_to_close(cluster, name, before, entry)
            elif answer.status not in (NODE_GONE, "accepted"):
                self._hub.wheel.alarm(ASK_AGAIN, lambda: self._ask_to_close(cluster, name, before, entry))

        cluster.ask(before.node, make, ASK_AGAIN, settled)

    # From the decision to the connection

    def withdraw(self, admission: Admission) -> None:
        """Undo an admission whose client went away meanwhile."""
        self._limits.leave(admission.applicant.request.peer)
        if self._pending.get(admission.name) is admission.entry:
            del self._pending[admission.name]
        self.release(admission.account, admission.entry)
        self._rest()

    def confirm(self, admission: Admission) -> None:
        """
        Check that an admission still counts, right before its connection is opened.

        Raises:
            SessionTaken: if a later one of the same session has replaced it meanwhile.
            Overloaded: if the server has begun to end.

        """
        if self._pending.get(admission.name) is not admission.entry or self._was_replaced(admission):
            raise SessionTaken(admission.entry.id)
        if self.is_closed:
            raise Overloaded("the server is ending")

    def _was_replaced(self, admission: Admission) -> bool:
        """Tell whether another node has claimed the session since, and has said so."""
        if self.cluster is None:
            return False
        other = self.cluster.tombstones.get(admission.name, self._hub.loop.time())
        return other is not None and other.rank > admission.entry.rank

    def open(self, admission: Admission, carrier: Carrier, phase: Phase) -> Connection:
        """Make the session and the connection of an admission."""
        applicant, entry, account = admission.applicant, admission.entry, admission.account
        request = applicant.request
        session = Session(self._hub, account, entry, request.peer, request.query_string, applicant.account)
        connection = Connection(self._hub, entry.sid, session, carrier, applicant.dialect, applicant.format, phase)
        session.connection = connection
        del self._pending[account, entry.id]
        self._following.opened(session, admission.followers)
        if not admission.is_registered:
            self.unregistered.add(session)
        self._hub.add(session, connection)
        return connection

    def ended(self, session: Session) -> None:
        """Give a session's place back."""
        self._limits.leave(session.peer)
        self.unregistered.discard(session)
        self._following.ended(session)
        self.release(session.account, session.entry)
        self._rest()

    def moved(self, session: Session) -> None:
        """Take note that a session is on another node, which has its entry now."""
        self._limits.leave(session.peer)
        self.unregistered.discard(session)
        self._following.left(session)
        self._rest()

    def _rest(self) -> None:
        """Hear what is sent to all not much longer, if nobody is here."""
        if self.cluster is not None and self._is_empty():
            self.cluster.quit_later(self._is_empty)

    def _is_empty(self) -> bool:
        return not (len(self._hub.sessions) or self._pending or self._claiming or self.journeys.coming)

    def arrived(self, session: Session, followers: list[Follower]) -> None:
        """Take note of a session that has come from another node."""
        self._limits.add(session.peer)
        self._following.arrived(session, followers)

    def release(self, account: AccountId, entry: Entry) -> None:
        """Remove the entry of a session that is not here any more."""
        if self.cluster is None:
            return
        cluster = self.cluster

        async def release() -> None:
            try:
                await cluster.link.ask(cluster.registry.release, account, entry)
            except BackendUnavailable as error:
                failure = DisconnectFailed(entry.id)
                failure.__cause__ = error
                self._application.problem(failure, key=(account, entry.id), value=entry.sid)

        self._run(release())

    # For the registry; see primacron.cluster.membership.Residents

    def entries(self) -> Iterable[tuple[AccountId, Entry]]:
        """Return the entries that should be in the registry."""
        for session in self._hub.sessions:
            yield session.account, session.entry

    def lives_here(self, name: Name) -> bool:
        """Tell whether a session is here, or on its way here."""
        is_coming = name in self._pending or name in self._claiming or name in self.journeys
        return is_coming or self._hub.sessions.get(*name) is not None

    def restored(self, account: AccountId, entry: Entry, found: Swapped) -> None:
        """Take what the registry has: the session's entry, or that of a later claim elsewhere."""
        session = self._hub.sessions.get(account, entry.id)
        if session is None or session.entry != entry or found.current is None:
            if found.outcome is Outcome.DONE and not self.lives_here((account, entry.id)):
                self.release(account, found.current or entry)  # it ended while it was written
            return
        handover = self.givings.of(entry) if self.givings is not None else None
        if handover is not None:
            if found.outcome is Outcome.DONE:
                handover.rewritten()
            return
        if found.outcome is Outcome.DONE:
            if found.current != entry:  # an equal one would only take memory
                session.entry = found.current
            self.unregistered.discard(session)
        elif session.connection is not None:
            if self.cluster is not None:
                self.cluster.tombstones.put((account, entry.id), found.current, self._hub.loop.time())
            session.connection.end(REPLACED)

    @property
    def registered(self) -> int:
        """Sessions that the registry has confirmed."""
        return len(self._hub.sessions) - len(self.unregistered)


def _now() -> int:
    """Return the time that orders claims, in milliseconds, when Redis does not give it."""
    return int(time.time() * 1000)

"""Handshakes: who may come in, under which name, and what the registry knows of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from primacron.cluster.base import BackendUnavailable, Outcome, Swapped
from primacron.cluster.cluster import Cluster
from primacron.config import Options
from primacron.dialects.base import Dialect
from primacron.entries import Entry, Name
from primacron.errors import ConnectFailed, DisconnectFailed, Overloaded, Refused, SessionTaken
from primacron.ids import AccountId, NodeId, SessionId, Sid, SidIssuer, new_session_id
from primacron.node.features import Feature
from primacron.node.journeys import Journeys
from primacron.protocol.closing import REPLACED
from primacron.protocol.engine import Phase
from primacron.protocol.handshake import Format
from primacron.sessions.carrier import Carrier
from primacron.sessions.connection import Connection
from primacron.sessions.hub import Hub
from primacron.sessions.lifecycle import State
from primacron.sessions.session import Session
from primacron.web import HttpRequest

try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython

if TYPE_CHECKING:
    from primacron.node.claiming import Claiming
    from primacron.node.giving import Givings
    from primacron.node.node import Application


class Applicant(msgspec.Struct):
    """What a handshake asks for, checked as far as it can be without asking anybody."""

    request: HttpRequest
    account: AccountId
    format: Format
    dialect: Dialect
    #: Whether its session is being claimed: what that replaces is to be known, even if the client goes away.
    is_claiming: bool = False


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
            "_being_claimed",
            "_features",
            "_generation",
            "_hub",
            "_issuer",
            "_limits",
            "_node",
            "_options",
            "_pending",
            "_run",
            "claiming",
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
        features: Sequence[Feature],
        run: Callable[[Coroutine[Any, Any, Any]], object],
    ) -> None:
        self._options = options
        self._hub = hub
        self._application = application
        self._issuer = issuer
        self._node = node
        self._features = features
        self._run = run
        self._limits = hub.limits
        #: Who was let in and has no connection yet.
        self._pending: dict[Name, Entry] = {}
        #: Names that the registry is being asked for.
        self._being_claimed: Counter[Name] = Counter()
        #: Sessions that the registry does not know, because it was away.
        self.unregistered: set[Session] = set()
        #: The highest that was seen here.
        self._generation = 0
        self.cluster: Cluster | None = None
        self.claiming: Claiming | None = None
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
        entry = self._claim_here(name, self._issuer.issue())
        self._take_place(name, entry)
        return Admission(applicant, account, entry)

    def _claim_here(self, name: Name, sid: Sid) -> Entry:
        if self._options.same_session == "refuse" and self.holds(name):
            raise SessionTaken(name[1])
        self._generation += 1
        return Entry(name[1], self._node, self._generation, sid)

    def _holder(self, name: Name) -> Entry | None:
        pending = self._pending.get(name)
        if pending is not None:
            return pending
        session = self._hub.sessions.get(*name)
        return session.entry if session is not None else None

    def holds(self, name: Name) -> bool:
        """Tell whether a session is here, was let in here, or is on its way from or to here."""
        return name in self._pending or name in self.journeys or self._hub.sessions.get(*name) is not None

    def _take_place(self, name: Name, entry: Entry) -> None:
        """Give a claim its name here, in the place of all older ones; one that is not the latest is never opened."""
        self._generation = max(self._generation, entry.generation)
        holder = self._holder(name)
        if holder is not None:
            if not holder.is_older_than(entry):
                return
            self.close_older(name, entry)
        self._pending[name] = entry

    def close_older(self, name: Name, claim: Entry, sid: Sid | None = None) -> None:
        """Close what is here of a session and older than a claim, be it by the sid that the claim has replaced."""
        pending = self._pending.get(name)
        if pending is not None and pending.is_older_than(claim):
            del self._pending[name]
        session = self._hub.sessions.get(*name)
        connection = self._hub.connections.get(sid) if sid is not None else None
        for each in (session.connection if session is not None else None, connection):
            if each is None or (each.session.account, each.session.id) != name:
                continue
            if each.session.entry.is_older_than(claim):
                each.end(REPLACED)

    # With others

    async def _admit_everywhere(self, cluster: Cluster, applicant: Applicant, name: Name) -> Admission:
        self._being_claimed[name] += 1
        try:
            admission = await self._claim(cluster, applicant, name, self._issuer.issue())
        finally:
            self._being_claimed -= Counter([name])
        self._take_place(name, admission.entry)
        return admission

    async def _claim(self, cluster: Cluster, applicant: Applicant, name: Name, sid: Sid) -> Admission:
        claiming = self.claiming
        assert claiming is not None
        await cluster.attend()
        applicant.is_claiming = True
        was_reachable = cluster.link.is_reachable
        try:
            claim = await claiming.claim(name, sid, replace=self._options.same_session == "replace")
        except BackendUnavailable as error:
            if was_reachable and not cluster.link.is_reachable:
                claiming.doubt(name, sid)
            return self._admit_unregistered(applicant, name, sid, error)
        assert claim.entry is not None
        if claim.before is not None:
            claiming.close(name, claim.before, claim.entry)
        return Admission(applicant, name[0], claim.entry, tuple(claim.followers))

    def _admit_unregistered(self, applicant: Applicant, name: Name, sid: Sid, cause: BackendUnavailable) -> Admission:
        """Let a client in although the other nodes will not find it, until the registry is back."""
        if self._options.without_redis == "refuse":
            raise Overloaded("the registry of sessions is away (option 'without_redis')") from cause
        if self._options.same_session == "refuse" and self.holds(name):
            raise SessionTaken(name[1])
        entry = Entry(name[1], self._node, self._next_generation(name), sid)
        failure = ConnectFailed(name[1])
        failure.__cause__ = cause
        self._application.problem(failure, key=name, value=sid, request=applicant.request)
        return Admission(applicant, name[0], entry, is_registered=False)

    def _next_generation(self, name: Name) -> int:
        """Return what ranks a claim above all that this node knows of, which Redis' clock may have given."""
        assert self.cluster is not None
        elsewhere = self._seen_elsewhere(name)
        time = self.cluster.registry.generation(name[0])
        return max(self._generation, elsewhere.generation if elsewhere is not None else 0, time - 1) + 1

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
        name, entry = admission.name, admission.entry
        if self._pending.get(name) is not entry or self._was_replaced(name, entry):
            raise SessionTaken(entry.id)
        if self.is_closed:
            raise Overloaded("the server is ending")

    def _was_replaced(self, name: Name, entry: Entry) -> bool:
        """Tell whether a later claim of the session has come here since, or another node has told of one."""
        session, elsewhere = self._hub.sessions.get(*name), self._seen_elsewhere(name)
        return (session is not None and entry.is_older_than(session.entry)) or (
            elsewhere is not None and elsewhere.rank > entry.rank
        )

    def _seen_elsewhere(self, name: Name) -> Entry | None:
        """Return where a session went that was here."""
        return None if self.cluster is None else self.cluster.tombstones.get(name, self._hub.loop.time())

    def open(self, admission: Admission, carrier: Carrier, phase: Phase) -> Connection:
        """Make the session and the connection of an admission."""
        applicant, entry, account = admission.applicant, admission.entry, admission.account
        request = applicant.request
        session = Session(self._hub, account, entry, request.peer, request.query_string, applicant.account)
        connection = Connection(self._hub, entry.sid, session, carrier, applicant.dialect, applicant.format, phase)
        session.attach(connection)
        del self._pending[account, entry.id]
        for feature in self._features:
            feature.opened(session, admission.followers)
        older = self._hub.add(session, connection)
        if older is not None and older.connection is not None:
            older.connection.end(REPLACED)
        if not admission.is_registered:
            self._register_later(session)
        return connection

    def _register_later(self, session: Session) -> None:
        """Write the entry of a session once the registry is back, or now if it is back already."""
        self.unregistered.add(session)
        if self.claiming is not None and self.cluster is not None and self.cluster.link.is_reachable:
            self._run(self.claiming.register(session.account, session.entry))

    def ended(self, session: Session) -> None:
        """Take note that a session has ended; its place is free once its connection is gone."""
        self.unregistered.discard(session)
        for feature in self._features:
            feature.ended(session)
        self.release(session.account, session.entry)
        self._rest()

    def moved(self, session: Session) -> None:
        """Take note that a session is on another node, which has its entry now."""
        self.unregistered.discard(session)
        for feature in self._features:
            feature.left(session)
        self._rest()

    def _rest(self) -> None:
        """Hear what is sent to all not much longer, if nobody is here."""
        if self.cluster is not None and self._is_empty():
            self.cluster.quit_later(self._is_empty)

    def _is_empty(self) -> bool:
        return not (len(self._hub.sessions) or self._pending or self._being_claimed or self.journeys.coming)

    def arrived(self, session: Session) -> None:
        """Take note of a session that has come from another node."""
        self._limits.add(session.peer)
        self._generation = max(self._generation, session.entry.generation)
        for feature in self._features:
            feature.arrived(session)

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
        for (account, _), entry in self._pending.items():
            yield account, entry

    def lives_here(self, name: Name) -> bool:
        """Tell whether a session is here, or on its way here."""
        return name in self._being_claimed or self.holds(name)

    def restored(self, account: AccountId, entry: Entry, found: Swapped) -> None:
        """Take what the registry has: the session's entry, or that of a later claim elsewhere."""
        name = (account, entry.id)
        if found.replaced is not None and self.claiming is not None:
            self.claiming.close(name, found.replaced, found.current or entry)
        if found.outcome is Outcome.OTHER and found.current is not None and self._pending.get(name) == entry:
            self._replaced_by(name, found.current)
            return
        session = self._hub.sessions.get(account, entry.id)
        if session is None or session.entry != entry or found.current is None:
            if found.outcome is Outcome.DONE and not self.lives_here(name):
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
            for feature in self._features:
                feature.restored(session)
        else:
            self._replaced_by(name, found.current)

    def _replaced_by(self, name: Name, claim: Entry) -> None:
        """Close what is here of a session that somebody else has claimed, as the registry tells."""
        if self.cluster is not None and claim.node != self._node:
            self.cluster.bury(name, claim)
        session = self._hub.live(name)
        self.close_older(name, claim)
        if session is not None and session.state is State.ENDED:
            for feature in self._features:
                feature.replaced(session)

    def emptied(self) -> None:
        """Have what only other nodes know of sessions written again."""
        for feature in self._features:
            feature.emptied()

    @property
    def registered(self) -> int:
        """Sessions that the registry has confirmed."""
        return len(self._hub.sessions) - len(self.unregistered)

    @property
    def are_unconfirmed(self) -> bool:
        """Whether there are sessions that the registry could not take."""
        return bool(self.unregistered)

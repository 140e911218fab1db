"""Admission of handshakes: who is admitted, under which name, and what that replaces on this node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from primacron.config import Options
from primacron.entries import Entry, Name
from primacron.errors import Overloaded, Refused, SessionTaken
from primacron.features.feature import Feature
from primacron.ids import AccountId, NodeId, SessionId, Sid, SidIssuer, new_session_id
from primacron.node.hooks import Application
from primacron.node.registrar import Admission, Applicant, Registrar
from primacron.protocol.close_reasons import REPLACED, CloseReason
from primacron.routing.transit import Transits
from primacron.sessions.connection import Connection
from primacron.sessions.hub import Hub
from primacron.sessions.session import Session
from primacron.sessions.transport import Transport

try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython


class Admissions:
    """The handshakes of a node, from authorization to the open connection."""

    if not cython.compiled:
        __slots__ = (
            "_application",
            "_features",
            "_hub",
            "_issuer",
            "_limits",
            "_node",
            "_options",
            "being_claimed",
            "generation",
            "is_closed",
            "pending",
            "registrar",
            "transits",
        )

    def __init__(
        self,
        options: Options,
        hub: Hub,
        application: Application,
        issuer: SidIssuer,
        node: NodeId,
        features: Sequence[Feature],
    ) -> None:
        self._options = options
        self._hub = hub
        self._application = application
        self._issuer = issuer
        self._node = node
        self._features = features
        self._limits = hub.limits
        #: Sessions that were admitted and have no connection yet.
        self.pending: dict[Name, Entry] = {}
        #: Names that are being claimed in the registry.
        self.being_claimed: Counter[Name] = Counter()
        #: The highest generation seen on this node.
        self.generation = 0
        #: Assigns names; set by the node.
        self.registrar: Registrar
        #: Sessions in transit.
        self.transits = Transits()
        self.is_closed = False

    @property
    def asks_nobody(self) -> bool:
        """Whether admission consults neither the application nor a registry."""
        return self.registrar.asks_nobody and not self._application.has_hooks

    def admit_now(self, applicant: Applicant) -> Admission:
        """
        Admit a connection without consulting the application or the registry.

        Raises:
            Refused: if a limit or the option ``same_session`` rejects it.

        """
        if self.is_closed:
            raise Overloaded("the server is ending")
        self._limits.enter(applicant.request.peer, self._hub.loop.time())
        try:
            return self.admit_here(applicant, (applicant.account, new_session_id()))
        except Refused:
            self._limits.leave(applicant.request.peer)
            raise

    async def admit(self, applicant: Applicant) -> Admission:
        """
        Admit a connection if the application and the registry agree.

        Raises:
            Refused: if the application, a limit or the option ``same_session`` rejects it.

        """
        request = applicant.request
        self._limits.enter(request.peer, self._hub.loop.time())
        try:
            account = AccountId(await self._application.authorize(request) or applicant.account)
            session = SessionId(await self._application.name_session(request))
            return await self.registrar.admit(applicant, (account, session))
        except BaseException:
            self._limits.leave(request.peer)
            self.registrar.rest()
            raise

    # Names

    def admit_here(self, applicant: Applicant, name: Name) -> Admission:
        """
        Admit a connection under a name that is checked on this node alone.

        Raises:
            SessionTaken: if the name is taken, and the option ``same_session`` is ``"refuse"``.

        """
        entry = self._claim_here(name, self._issuer.issue())
        self.take_place(name, entry)
        return Admission(applicant, name[0], entry)

    def _claim_here(self, name: Name, sid: Sid) -> Entry:
        if self._options.same_session == "refuse" and self.holds(name):
            raise SessionTaken(name[1])
        self.generation += 1
        return Entry(name[1], self._node, self.generation, sid)

    def holder(self, name: Name) -> Entry | None:
        """Return the latest entry of a session that is open or admitted on this node."""
        pending = self.pending.get(name)
        if pending is not None:
            return pending
        session = self._hub.sessions.get(*name)
        return session.entry if session is not None else None

    def holds(self, name: Name) -> bool:
        """Tell whether a session is open or admitted on this node, or in transit from or to it."""
        return name in self.pending or name in self.transits or self._hub.sessions.get(*name) is not None

    def lives_here(self, name: Name) -> bool:
        """Tell whether a session is held by this node, or being claimed for it."""
        return name in self.being_claimed or self.holds(name)

    @property
    def is_empty(self) -> bool:
        """Whether this node has no sessions, and none that are being admitted or arriving."""
        return not (len(self._hub.sessions) or self.pending or self.being_claimed or self.transits.arriving)

    def take_place(self, name: Name, entry: Entry) -> None:
        """Give a claim its name on this node, replacing older ones; a claim that is not the latest is never opened."""
        self.generation = max(self.generation, entry.generation)
        holder = self.holder(name)
        if holder is not None:
            if not holder.is_older_than(entry):
                return
            self.close_older(name, entry)
        self.pending[name] = entry

    def close_older(self, name: Name, claim: Entry, sid: Sid | None = None) -> None:
        """Close what this node has of a session that is older than a claim, including the connection ``sid``."""
        pending = self.pending.get(name)
        if pending is not None and pending.is_older_than(claim):
            del self.pending[name]
        session = self._hub.sessions.get(*name)
        connection = self._hub.connections.get(sid) if sid is not None else None
        for each in (session.connection if session is not None else None, connection):
            if each is None or (each.session.account, each.session.id) != name:
                continue
            if each.session.entry.is_older_than(claim):
                each.end(REPLACED)

    def release(self, account: AccountId, entry: Entry) -> None:
        """Release the name of a session that is no longer on this node."""
        self.registrar.release(account, entry)

    # From the decision to the connection

    def withdraw(self, admission: Admission) -> None:
        """Undo an admission whose client disconnected before its connection was opened."""
        self._limits.leave(admission.applicant.request.peer)
        if self.pending.get(admission.name) is admission.entry:
            del self.pending[admission.name]
        self.registrar.release(admission.account, admission.entry)
        self.registrar.rest()

    def confirm(self, admission: Admission) -> None:
        """
        Check that an admission is still valid, right before its connection is opened.

        Raises:
            SessionTaken: if a later claim of the same session has replaced it.
            Overloaded: if the server is shutting down.

        """
        name, entry = admission.name, admission.entry
        if self.pending.get(name) is not entry or self._was_replaced(name, entry):
            raise SessionTaken(entry.id)
        if self.is_closed:
            raise Overloaded("the server is ending")

    def _was_replaced(self, name: Name, entry: Entry) -> bool:
        """Tell whether a later claim of the session has been made on this node, or reported by another."""
        session, elsewhere = self._hub.sessions.get(*name), self.registrar.seen_elsewhere(name)
        return (session is not None and entry.is_older_than(session.entry)) or (
            elsewhere is not None and elsewhere.rank > entry.rank
        )

    def open(self, admission: Admission, transport: Transport) -> Connection:
        """Create the session and the connection of an admission."""
        applicant, entry, account = admission.applicant, admission.entry, admission.account
        request = applicant.request
        session = Session(self._hub, account, entry, request.peer, request.query_string, applicant.account)
        connection = Connection(self._hub, entry.sid, session, transport, applicant.dialect, applicant.format)
        session.attach(connection)
        del self.pending[account, entry.id]
        for feature in self._features:
            feature.opened(session, admission.stored.get(feature.name, ()))
        older = self._hub.add(session, connection)
        if older is not None and older.connection is not None:
            older.connection.end(REPLACED)
        if not admission.is_registered:
            self.registrar.register_later(session)
        return connection

    def opened(self, connection: Connection) -> None:
        """Announce a new connection, once its client has been told that it is open."""
        session = self._hub.session_of(connection)
        if self.transits:
            self.transits.opened(session)
        self._application.opened(session)

    # The end

    def ended(self, session: Session, reason: CloseReason) -> None:
        """Release the name of a session that has ended; its limits are freed once its connection is closed."""
        for feature in self._features:
            feature.ended(session, reason)
        self.registrar.left(session)
        self.registrar.release(session.account, session.entry)

    def moved(self, session: Session) -> None:
        """Record that a session has moved to another node, which now owns its entry."""
        self._tell_features(session, lambda feature: feature.left(session))
        self.registrar.left(session)

    def arrived(self, session: Session) -> None:
        """Record that a session has arrived from another node."""
        self._limits.add(session.peer)
        self.generation = max(self.generation, session.entry.generation)
        self._tell_features(session, lambda feature: feature.arrived(session))

    def _tell_features(self, session: Session, tell: Callable[[Feature], None]) -> None:
        """Tell all features of a move, which goes on whatever fails: another node relies on it."""
        for feature in self._features:
            try:
                tell(feature)
            except Exception as error:
                self._application.problem(error, session=session)

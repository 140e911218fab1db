"""The entries of this node's sessions in the registry: claimed, restored after data loss, and released."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from primacron.cluster.cluster import Cluster
from primacron.cluster.errors import BackendUnavailable
from primacron.cluster.registry import Outcome, Swapped
from primacron.config import Options
from primacron.entries import Entry, Name
from primacron.errors import ConnectFailed, DisconnectFailed, Overloaded, SessionTaken
from primacron.features.feature import Feature
from primacron.handoff.source import Sources
from primacron.ids import AccountId, Sid, SidIssuer
from primacron.node.admission import Admissions
from primacron.node.claiming import Claiming
from primacron.node.hooks import Application
from primacron.node.registrar import Admission, Applicant
from primacron.sessions.hub import Hub
from primacron.sessions.lifecycle import State
from primacron.sessions.session import Session


class Registration:
    """The registrar of a node in a cluster; also its :class:`primacron.cluster.membership.Residents`."""

    asks_nobody = False

    def __init__(
        self,
        options: Options,
        hub: Hub,
        application: Application,
        issuer: SidIssuer,
        cluster: Cluster,
        claiming: Claiming,
        sources: Sources,
        admissions: Admissions,
        features: Sequence[Feature],
        run: Callable[[Coroutine[Any, Any, Any]], object],
    ) -> None:
        self._options = options
        self._hub = hub
        self._application = application
        self._issuer = issuer
        self._cluster = cluster
        self._claiming = claiming
        self._sources = sources
        self._admissions = admissions
        self._features = features
        self._run = run
        #: Sessions that are not in the registry because it was unavailable.
        self.unregistered: set[Session] = set()

    # Assigning names; see primacron.node.registrar.Registrar

    async def join(self, started: int) -> None:
        """Announce this node and its sessions to the cluster."""
        await self._cluster.join(self, started)

    async def admit(self, applicant: Applicant, name: Name) -> Admission:
        """Claim a name; while the registry is unavailable, assign it locally."""
        admissions = self._admissions
        admissions.being_claimed[name] += 1
        try:
            admission = await self._claim(applicant, name, self._issuer.issue())
        finally:
            admissions.being_claimed -= Counter([name])
        admissions.take_place(name, admission.entry)
        return admission

    async def _claim(self, applicant: Applicant, name: Name, sid: Sid) -> Admission:
        cluster, claiming = self._cluster, self._claiming
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
        return Admission(applicant, name[0], claim.entry, claim.sets)

    def _admit_unregistered(self, applicant: Applicant, name: Name, sid: Sid, cause: BackendUnavailable) -> Admission:
        """Admit a client that other nodes cannot find until the registry is back."""
        if self._options.without_redis == "refuse":
            raise Overloaded("the registry of sessions is away (option 'without_redis')") from cause
        if self._options.same_session == "refuse" and self._admissions.holds(name):
            raise SessionTaken(name[1])
        entry = Entry(name[1], self._cluster.node, self._next_generation(name), sid)
        failure = ConnectFailed(name[1])
        failure.__cause__ = cause
        self._application.problem(failure, key=name, value=sid, request=applicant.request)
        return Admission(applicant, name[0], entry, is_registered=False)

    def _next_generation(self, name: Name) -> int:
        """Return a generation above all those known to this node, including ones derived from the clock of Redis."""
        elsewhere = self.seen_elsewhere(name)
        time = self._cluster.registry.generation(name[0])
        return max(self._admissions.generation, elsewhere.generation if elsewhere is not None else 0, time - 1) + 1

    def seen_elsewhere(self, name: Name) -> Entry | None:
        """Return the entry of a session that has moved from this node to another."""
        return self._cluster.tombstones.get(name, self._hub.loop.time())

    def register_later(self, session: Session) -> None:
        """Register a session that has no entry as soon as the registry is back."""
        self.unregistered.add(session)
        if self._cluster.link.is_reachable:
            self._run(self._register(session.account, session.entry))

    async def _register(self, account: AccountId, entry: Entry) -> None:
        try:
            (found,) = await self._cluster.link.ask(self._cluster.registry.restore, [(account, entry)])
        except BackendUnavailable:
            return  # all entries are restored once it is back
        if found is not None:
            self.restored(account, entry, found)

    # Releasing names

    def left(self, session: Session) -> None:
        """Stop tracking a session that has ended or moved, and may have been the last."""
        self.unregistered.discard(session)
        self.rest()

    def release(self, account: AccountId, entry: Entry) -> None:
        """Remove the entry of a session that is no longer on this node."""
        cluster = self._cluster

        async def release() -> None:
            try:
                await cluster.link.ask(cluster.registry.release, account, entry)
            except BackendUnavailable as error:
                failure = DisconnectFailed(entry.id)
                failure.__cause__ = error
                self._application.problem(failure, key=(account, entry.id), value=entry.sid)

        self._run(release())

    def rest(self) -> None:
        """Stop receiving what is sent to all nodes after a while, if this node has no sessions."""
        if self._admissions.is_empty:
            self._cluster.quit_later(lambda: self._admissions.is_empty)

    # For the registry; see primacron.cluster.membership.Residents

    def entries(self) -> Iterable[tuple[AccountId, Entry]]:
        """Return the entries that should be in the registry."""
        for session in self._hub.sessions:
            yield session.account, session.entry
        for (account, _), entry in self._admissions.pending.items():
            yield account, entry

    def lives_here(self, name: Name) -> bool:
        """Tell whether a session is held by this node, or being claimed for it."""
        return self._admissions.lives_here(name)

    def restored(self, account: AccountId, entry: Entry, found: Swapped) -> None:
        """Handle the result of restoring an entry: it is in the registry, or that of a later claim is."""
        name = (account, entry.id)
        if found.replaced is not None:
            self._claiming.close(name, found.replaced, found.current or entry)
        is_pending = self._admissions.pending.get(name) == entry
        if found.outcome is Outcome.OTHER and found.current is not None and is_pending:
            self._replaced_by(name, found.current)
            return
        session = self._hub.sessions.get(account, entry.id)
        if session is None or session.entry != entry or found.current is None:
            if found.outcome is Outcome.DONE and not self.lives_here(name):
                self.release(account, found.current or entry)  # the session ended during the write
            return
        handoff = self._sources.of(name, entry)
        if handoff is not None:
            if found.outcome is Outcome.DONE:
                handoff.rewritten()
            return
        if found.outcome is Outcome.DONE:
            self._is_registered(session, found.current)
        else:
            self._replaced_by(name, found.current)

    def _is_registered(self, session: Session, entry: Entry) -> None:
        if entry != session.entry:  # an equal copy would waste memory
            session.entry = entry
        self.unregistered.discard(session)
        for feature in self._features:
            feature.restored(session)

    def _replaced_by(self, name: Name, claim: Entry) -> None:
        """Close what this node has of a session whose entry belongs to another claim."""
        if claim.node != self._cluster.node:
            self._cluster.leave_tombstone(name, claim)
        session = self._hub.live(name)
        self._admissions.close_older(name, claim)
        if session is not None and session.state is State.ENDED:
            for feature in self._features:
                feature.replaced(session)

    def emptied(self) -> None:
        """Have the features restore what only other nodes know about sessions."""
        for feature in self._features:
            feature.emptied()

    @property
    def registered(self) -> int:
        """Number of sessions that the registry has confirmed."""
        return len(self._hub.sessions) - len(self.unregistered)

    @property
    def are_unconfirmed(self) -> bool:
        """Whether there are sessions that could not be registered."""
        return bool(self.unregistered)

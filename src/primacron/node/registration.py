"""The names of this node's sessions in the registry: claimed, written again when it has lost them, taken back."""

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
    """The registrar of a node that has others; see also :class:`primacron.cluster.membership.Residents`."""

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
        #: Sessions that the registry does not know, because it was away.
        self.unregistered: set[Session] = set()

    # To give names; see primacron.node.registrar.Registrar

    async def join(self, started: int) -> None:
        """Let the other nodes know of this one, and of its sessions."""
        await self._cluster.join(self, started)

    async def admit(self, applicant: Applicant, name: Name) -> Admission:
        """Claim a name, or take it while the registry is away."""
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
        """Let a client in although the other nodes will not find it, until the registry is back."""
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
        """Return what ranks a claim above all that this node knows of, which Redis' clock may have given."""
        elsewhere = self.seen_elsewhere(name)
        time = self._cluster.registry.generation(name[0])
        return max(self._admissions.generation, elsewhere.generation if elsewhere is not None else 0, time - 1) + 1

    def seen_elsewhere(self, name: Name) -> Entry | None:
        """Return where a session went that was here."""
        return self._cluster.tombstones.get(name, self._hub.loop.time())

    def opened(self, session: Session, *, is_registered: bool) -> None:
        """Have the entry of a session that has none written once the registry is back, or now if it is back already."""
        if is_registered:
            return
        self.unregistered.add(session)
        if self._cluster.link.is_reachable:
            self._run(self._register(session.account, session.entry))

    async def _register(self, account: AccountId, entry: Entry) -> None:
        try:
            (found,) = await self._cluster.link.ask(self._cluster.registry.restore, [(account, entry)])
        except BackendUnavailable:
            return  # when it is back all is written again
        if found is not None:
            self.restored(account, entry, found)

    # To take them back

    def left(self, session: Session) -> None:
        """Forget a session that is here no longer."""
        self.unregistered.discard(session)

    def release(self, account: AccountId, entry: Entry) -> None:
        """Remove the entry of a session that is not here any more."""
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
        """Hear what is sent to all not much longer, if nobody is here."""
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
        """Tell whether a session is here, or on the way here."""
        return self._admissions.lives_here(name)

    def restored(self, account: AccountId, entry: Entry, found: Swapped) -> None:
        """Take what the registry has: the session's entry, or that of a later claim elsewhere."""
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
                self.release(account, found.current or entry)  # it ended while it was written
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
        if entry != session.entry:  # an equal one would only take memory
            session.entry = entry
        self.unregistered.discard(session)
        for feature in self._features:
            feature.restored(session)

    def _replaced_by(self, name: Name, claim: Entry) -> None:
        """Close what is here of a session that somebody else has claimed, as the registry tells."""
        if claim.node != self._cluster.node:
            self._cluster.leave_tombstone(name, claim)
        session = self._hub.live(name)
        self._admissions.close_older(name, claim)
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

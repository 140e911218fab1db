"""
Following: one session gets what another one sends, and if it wants what that gets, wherever both are.

Who follows is kept with the followed session, and in the registry for as long as
that may come back. What is mirrored is never mirrored again, so that sessions may
follow each other.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from primacron.cluster.base import BackendUnavailable
from primacron.cluster.cluster import Cluster
from primacron.cluster.wire import Follow
from primacron.content import Content, Event, Message, Mirrored
from primacron.dialects.base import Origin
from primacron.entries import Entry, Name
from primacron.errors import ForwardFailed
from primacron.ids import AccountId, SessionId
from primacron.node.local import Manner
from primacron.node.routing import Router
from primacron.receipts import ACCEPTED, REFUSED, UNKNOWN_SESSION, UNSENT, Receipt
from primacron.sessions.hub import Hub

if TYPE_CHECKING:
    from primacron.sessions.session import Session

#: Seconds after which it is asked whether a follower is still there.
CHECK_EVERY: Final = 10.0


class Follower(msgspec.Struct, array_like=True, frozen=True):
    """Who follows, and whether it gets what the followed session gets as well."""

    account: AccountId
    session: SessionId
    received: bool = False

    @property
    def name(self) -> Name:
        """The following session by account and id."""
        return self.account, self.session

    def pack(self) -> bytes:
        """Return it as it travels."""
        return msgspec.msgpack.encode(self)


_DECODER: Final = msgspec.msgpack.Decoder(Follower)


def read_followers(packed: Sequence[bytes]) -> list[Follower]:
    """Read followers; what is none is left out."""
    found: list[Follower] = []
    for each in packed:
        try:
            found.append(_DECODER.decode(each))
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            continue
    return found


class Following:
    """Who follows the sessions of this node."""

    def __init__(self, hub: Hub, router: Router, run: Callable[[Coroutine[Any, Any, Any]], object]) -> None:
        self._hub = hub
        self._router = router
        self._run = run
        self._cluster: Cluster | None = None
        #: Of sessions that have ended: their followers, and until when they are kept; without a registry.
        self._kept: dict[Name, tuple[list[Follower], float]] = {}
        hub.mirror = self

    def connect(self, cluster: Cluster, at_session: Callable[[Follow, Callable[..., None]], None]) -> None:
        """Follow sessions of other nodes, too."""
        self._cluster = cluster
        cluster.on(Follow, lambda item, _: at_session(item, self._take))

    # To follow

    async def pipe(self, follower: Session, name: Name, *, received: bool) -> Receipt:
        """Let a session of this node follow another one."""
        receipt = await self._change(name, Follower(follower.account, follower.id, received), adds=True)
        if receipt.ok:
            follower.extras.following.add(name)
            if follower.has_ended:
                await self.unpipe(follower, name)
        return receipt

    async def unpipe(self, follower: Session, name: Name) -> Receipt:
        """Let a session of this node follow another one no longer."""
        follower.extras.following.discard(name)
        return await self._change(name, Follower(follower.account, follower.id), adds=False)

    async def _change(self, name: Name, follower: Follower, *, adds: bool) -> Receipt:
        session = self._hub.sessions.get(*name)
        if session is not None and session.connection is not None:
            return await self._change_here(session, follower, adds=adds)
        if self._router.afar is None or self._cluster is None:
            return UNKNOWN_SESSION
        cluster, packed = self._cluster, msgspec.Raw(follower.pack())

        def make(entry: Entry, number: int) -> Follow:
            return Follow(number, cluster.node, *name, entry.generation, 0, packed, adds)

        return await self._router.afar.request(name, make)

    def _take(self, session: Session, _: object, item: Follow) -> None:
        """Change who follows a session of this node, as another node asks."""
        follower = _DECODER.decode(item.follower)
        self._run(self._answer(session, follower, item))

    async def _answer(self, session: Session, follower: Follower, item: Follow) -> None:
        receipt = await self._change_here(session, follower, adds=item.adds)
        if self._cluster is not None:
            self._cluster.answer(item, receipt.status)

    async def _change_here(self, session: Session, follower: Follower, *, adds: bool) -> Receipt:
        followers = session.extras.followers
        earlier = followers.get(follower.name)
        if adds:
            if earlier is None and len(followers) >= self._hub.options.max_followers:
                return REFUSED
            followers[follower.name] = follower
        else:
            followers.pop(follower.name, None)
        self._note(session)
        return await self._store((session.account, session.id), earlier, follower if adds else None)

    async def _store(self, name: Name, earlier: Follower | None, follower: Follower | None) -> Receipt:
        """Keep it in the registry; without it the session would lose its followers with its connection, no more."""
        if self._cluster is None or earlier == follower:
            return ACCEPTED
        ask, registry = self._cluster.link.ask, self._cluster.registry
        try:
            if earlier is not None:
                await ask(registry.unfollow, name, earlier.pack())
            if follower is not None:
                await ask(registry.follow, name, follower.pack())
        except BackendUnavailable:
            return ACCEPTED if follower is None else UNSENT
        return ACCEPTED

    def _note(self, session: Session) -> None:
        """Take note whether anybody follows a session."""
        followers = session.extras.followers.values()
        for sessions, wanted in (
            (self._hub.followed, bool(followers)),
            (self._hub.overheard, any(follower.received for follower in followers)),
        ):
            if wanted:
                sessions.add(session)
            else:
                sessions.discard(session)

    # What is mirrored

    def sent(self, session: Session, event: str, args: tuple[Any, ...]) -> None:
        """Mirror an event that a session has sent, and that has passed its validator."""
        content = Mirrored(event, args, session.account, session.id, "in")
        for follower in tuple(session.extras.followers.values()):
            self._send(session, follower, content)

    def got(self, session: Session, content: Content) -> None:
        """Mirror content that was sent to a session."""
        origin = Origin(session.account, session.id, "out")
        if isinstance(content, Event):
            mirrored = Mirrored.of(content.name, content.args, origin)
        elif isinstance(content, Message):
            mirrored = Mirrored.of("message", (content.content,), origin)
        else:
            return
        for follower in tuple(session.extras.followers.values()):
            if follower.received:
                self._send(session, follower, mirrored)

    def got_by_many(self, account: AccountId | None, content: Content, manner: Manner) -> None:
        """Mirror content that is about to be delivered to an account, or with None to all."""
        now = self._hub.loop.time()
        for session in tuple(self._hub.overheard):
            if account is not None and account != session.account:
                continue
            # To one on its way it is delivered, and mirrored, where that arrives.
            if session.connected and not manner.is_known_by(session, now):
                self.got(session, content)

    def _send(self, session: Session, follower: Follower, content: Mirrored) -> None:
        now = self._hub.loop.time()
        checked = session.extras.checked
        asks = now - checked.get(follower.name, 0.0) >= CHECK_EVERY
        try:
            delivery = self._router.to_session(follower.name, content, receipt=asks)
        except (TypeError, ValueError, RecursionError) as error:
            # Not the fault of who sent it, and no reason to end anything.
            failure = ForwardFailed("refused", f"follower {follower.account}/{follower.session}")
            failure.__cause__ = error
            self._hub.receiver.problem(failure, key=follower.name, session=session)
            return
        if asks:
            checked[follower.name] = now
            delivery.add_done_callback(lambda done: self._look(session, follower, done.result()))

    def _look(self, session: Session, follower: Follower, receipt: Receipt) -> None:
        """Let go of a follower that is gone."""
        if receipt == UNKNOWN_SESSION and session.connection is not None:
            self._run(self._change_here(session, follower, adds=False))

    # The life of sessions

    def opened(self, session: Session, packed: Sequence[bytes]) -> None:
        """Give a session that has come back the followers that it had."""
        if not packed and not self._kept:
            return
        name = (session.account, session.id)
        followers, until = self._kept.pop(name, ((), 0.0))
        if until <= self._hub.loop.time():
            followers = read_followers(packed)
        self.arrived(session, followers)

    def arrived(self, session: Session, followers: Sequence[Follower]) -> None:
        """Take note of the followers of a session that has come from another node."""
        if followers:
            session.extras.followers = {follower.name: follower for follower in followers}
            self._note(session)

    def left(self, session: Session) -> None:
        """Take note that a session has moved to another node."""
        self._hub.followed.discard(session)
        self._hub.overheard.discard(session)

    def ended(self, session: Session) -> None:
        """Let a session that has ended follow nobody, and keep its followers for a while."""
        if session.has_extras:
            extras = session.extras
            for name in extras.following:
                self._run(self._change(name, Follower(session.account, session.id), adds=False))
            if extras.followers and self._cluster is None:
                self._keep((session.account, session.id), [*extras.followers.values()])
        self.left(session)

    def _keep(self, name: Name, followers: list[Follower]) -> None:
        now = self._hub.loop.time()
        while self._kept and next(iter(self._kept.values()))[1] <= now:
            del self._kept[next(iter(self._kept))]
        self._kept.pop(name, None)
        self._kept[name] = followers, now + self._hub.options.timeout

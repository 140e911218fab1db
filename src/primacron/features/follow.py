"""
Following: mirror what one session sends, and optionally what it receives, to another, wherever both are.

The followers are stored with the followed session, and in a set that survives the session
for a while in case it reconnects. Mirrored content is never mirrored again, so sessions may
follow each other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

import msgspec

from primacron.cluster.cluster import Cluster
from primacron.cluster.errors import BackendUnavailable
from primacron.cluster.solo import Solo
from primacron.content import Content, Mirrored
from primacron.dialects.base import Origin
from primacron.entries import Name
from primacron.errors import ForwardFailed, Refused
from primacron.features.feature import Feature
from primacron.ids import AccountId, NodeId, SessionId
from primacron.protocol.close_reasons import CloseReason
from primacron.receipts import ACCEPTED, REFUSED, UNKNOWN_SESSION, UNSENT, Receipt
from primacron.routing.router import Router
from primacron.sessions.hub import Hub
from primacron.sessions.lifecycle import State

if TYPE_CHECKING:
    from primacron.sessions.session import Direction, Session

T = TypeVar("T")
V = TypeVar("V")

#: Seconds between checks that a follower still exists.
CHECK_EVERY: Final = 10.0
#: Seconds between attempts to follow again after the registry was emptied, and their maximum number.
AGAIN: Final = 2.0
TRIES: Final = 10


class Follower(msgspec.Struct, array_like=True, frozen=True):
    """A following session; ``received`` if it also gets what the followed session receives."""

    account: AccountId
    session: SessionId
    received: bool = False

    @property
    def name(self) -> Name:
        """The account and id of the following session."""
        return self.account, self.session

    def pack(self) -> bytes:
        """Encode the follower, for a set or another node."""
        return msgspec.msgpack.encode(self)


_DECODER: Final = msgspec.msgpack.Decoder(Follower)
#: A request to the node of a followed session: the follower, and whether to add or remove it.
_CHANGE_DECODER: Final = msgspec.msgpack.Decoder(tuple[Follower, bool])


def read_followers(packed: Sequence[bytes]) -> list[Follower]:
    """Decode followers, skipping what is malformed."""
    found: list[Follower] = []
    for each in packed:
        try:
            found.append(_DECODER.decode(each))
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            continue
    return found


class Follows:
    """The followers of a session, and the sessions that it follows, as a :class:`FeatureState`."""

    __slots__ = ("checked", "followers", "following", "listening")

    name: ClassVar[str] = "follow"

    def __init__(self) -> None:
        #: Its followers, and when each was last checked.
        self.followers: dict[Name, Follower] = {}
        self.checked: dict[Name, float] = {}
        #: The sessions it follows, and those of them whose received content it gets as well.
        self.following: set[Name] = set()
        self.listening: set[Name] = set()

    def dump(self, node: NodeId, now: float) -> Any:
        """Pack the followers and the followed; None if there are neither."""
        if not self.followers and not self.following:
            return None
        return [*self.followers.values()], [*self.following], [*self.listening]

    def load(self, packed: msgspec.Raw, now: float) -> None:
        """Restore the followers and the followed from another node's snapshot."""
        followers, following, listening = _STATE_DECODER.decode(packed)
        self.followers = {follower.name: follower for follower in followers}
        self.following, self.listening = set(following), set(listening)


_STATE_DECODER: Final = msgspec.msgpack.Decoder(tuple[list[Follower], list[Name], list[Name]])


class Following(Feature):
    """Manages the followers of this node's sessions, and mirrors content to them."""

    name = Follows.name
    state = Follows
    has_sets = True

    def __init__(
        self, hub: Hub, router: Router, cluster: Cluster | Solo, run: Callable[[Coroutine[Any, Any, Any]], object]
    ) -> None:
        super().__init__(hub, router, cluster, run)
        #: Pairs of followed and follower removed while the registry was unreachable, to be removed from it later.
        self._let_go: set[tuple[Name, Name]] = set()
        cluster.on_back.append(self._is_back)

    # Following and unfollowing

    async def pipe(self, follower: Session, name: Name, *, received: bool) -> Receipt:
        """Make a session of this node follow another session."""
        receipt = await self._change(name, Follower(follower.account, follower.id, received), adds=True)
        if receipt.ok:
            _note_followed(follower, name, received=received)
            if follower.state is State.ENDED:
                await self.unpipe(follower, name)
        return receipt

    async def unpipe(self, follower: Session, name: Name) -> Receipt:
        """Make a session of this node stop following another session."""
        follows = follower.demand(Follows)
        is_followed, received = name in follows.following, name in follows.listening
        _forget_followed(follower, name)
        receipt = await self._change(name, Follower(follower.account, follower.id), adds=False)
        if is_followed and receipt.certain and receipt not in (ACCEPTED, UNKNOWN_SESSION):
            _note_followed(follower, name, received=received)  # it still follows
        return receipt

    async def _change(self, name: Name, follower: Follower, *, adds: bool) -> Receipt:
        session = self._hub.live(name)
        if session is not None:
            return await self._change_here(session, follower, adds=adds)
        change = msgspec.Raw(msgspec.msgpack.encode((follower, adds)))
        return await self._router.ask(name, self.name, change)

    def asked(self, session: Session, body: msgspec.Raw) -> Coroutine[Any, Any, Receipt]:
        """Add or remove a follower of a session on this node, as another node requests."""
        follower, adds = _CHANGE_DECODER.decode(body)
        return self._change_here(session, follower, adds=adds)

    async def _change_here(self, session: Session, follower: Follower, *, adds: bool) -> Receipt:
        followers = session.demand(Follows).followers
        earlier = followers.get(follower.name)
        if adds and earlier is None and len(followers) >= self._hub.options.max_followers:
            return REFUSED
        self._set(session, follower.name, follower if adds else None)
        if await self._store(session, earlier, follower if adds else None):
            return ACCEPTED
        if followers.get(follower.name) == (follower if adds else None):  # unless changed again meanwhile
            self._set(session, follower.name, earlier)
        return UNSENT

    def _set(self, session: Session, name: Name, follower: Follower | None) -> None:
        followers = session.demand(Follows).followers
        if follower is not None:
            followers[name] = follower
        else:
            followers.pop(name, None)
        self._note(session)

    async def _store(self, session: Session, earlier: Follower | None, follower: Follower | None) -> bool:
        """
        Update the session's set, in case the session reconnects; False if the registry refuses.

        While the registry is unreachable, the update is postponed: the session holds its
        followers itself, and they are written with its entry once the registry is back.
        """
        name = (session.account, session.id)
        try:
            if earlier is not None and earlier != follower:
                await self._ask(self._cluster.sets.remove, name, earlier.pack())
            if follower is not None:
                await self._ask(self._cluster.sets.add, name, follower.pack())
        except BackendUnavailable:
            if self._cluster.link.is_reachable:
                return False
            if earlier is not None and earlier != follower:
                self._let_go.add((name, earlier.name))
        return True

    async def _ask(self, method: Callable[[str, Name, V], Awaitable[T]], name: Name, value: V) -> T:
        """Run an operation on the set of a session."""
        return await self._cluster.link.ask(method, self.name, name, value)

    # Repairing the registry

    def restored(self, session: Session) -> None:
        """Write the followers of a session whose entry has been rewritten."""
        follows = session.peek(Follows)
        if follows is not None and follows.followers:
            self._run(self._write_followers(session, follows))

    async def _write_followers(self, session: Session, follows: Follows) -> None:
        name = (session.account, session.id)
        with contextlib.suppress(BackendUnavailable):
            for follower in tuple(follows.followers.values()):
                await self._ask(self._cluster.sets.add, name, follower.pack())

    def emptied(self) -> None:
        """
        Follow again, as the registry may have lost the followers.

        The followers' nodes do this: for a followed session that is disconnected at the
        moment, no other node has the information.
        """
        for session in self._hub.sessions:
            follows = session.peek(Follows)
            if follows is None:
                continue
            for name in follows.following:
                follower = Follower(session.account, session.id, name in follows.listening)
                self._run(self._follow_again(name, follower, session, TRIES))

    def replaced(self, session: Session) -> None:
        """Add the followers to the session that replaced theirs, as the registry may not have had them."""
        follows = session.peek(Follows)
        for follower in () if follows is None else follows.followers.values():
            self._run(self._follow_again((session.account, session.id), follower, None, TRIES))

    async def _follow_again(self, name: Name, follower: Follower, session: Session | None, tries: int) -> None:
        """Add a follower again; ``session`` is its own, if on this node, and may have unfollowed meanwhile."""
        if session is not None and not _follows(session, name):
            return
        receipt = await self._change(name, follower, adds=True)
        if receipt.ok:
            return
        with contextlib.suppress(BackendUnavailable):
            if receipt != REFUSED and await self._ask(self._cluster.sets.keep, name, [follower.pack()]):
                return
        if receipt != REFUSED and tries > 1:
            # The followed session is about to reconnect, or cannot be reached yet.
            again = partial(self._follow_again, name, follower, session, tries - 1)
            self._hub.wheel.alarm(AGAIN, lambda: self._run(again()))
            return
        if session is not None:
            _forget_followed(session, name)
        failure = ForwardFailed(
            receipt.status, f"follower {follower.account}/{follower.session} of {name[0]}/{name[1]}"
        )
        self._hub.receiver.problem(failure, key=name, session=session)

    def _is_back(self) -> None:
        if self._let_go:
            self._run(self._write_let_go())

    async def _write_let_go(self) -> None:
        """Remove from the registry the followers that were removed while it was unreachable."""
        let_go, self._let_go = self._let_go, set()
        while let_go:
            name, follower = change = let_go.pop()
            session = self._hub.sessions.get(*name)
            if session is not None and follower in session.demand(Follows).followers:
                continue  # added again meanwhile
            await self._change(name, Follower(*follower), adds=False)
            try:
                for received in (False, True):
                    await self._ask(self._cluster.sets.remove, name, Follower(*follower, received).pack())
            except BackendUnavailable:
                self._let_go |= {change, *let_go}
                return

    def _note(self, session: Session) -> None:
        """Tap a session if it has followers, otherwise remove the tap."""
        if session.demand(Follows).followers:
            self._hub.tap(session, self._mirror)
        else:
            self._hub.untap(session, self._mirror)

    # Mirroring

    def _mirror(self, session: Session, content: Content, direction: Direction) -> None:
        """Forward what a session sends to all of its followers, and what it receives to those that want it."""
        event = content.as_event()
        if event is None:
            return
        mirrored = Mirrored.of(*event, Origin(session.account, session.id, direction))
        for follower in tuple(session.demand(Follows).followers.values()):
            if follower.received or direction == "in":
                self._send(session, follower, mirrored)

    def _send(self, session: Session, follower: Follower, content: Mirrored) -> None:
        now = self._hub.loop.time()
        checked = session.demand(Follows).checked
        asks = now - checked.get(follower.name, 0.0) >= CHECK_EVERY
        try:
            delivery = self._router.to_session(follower.name, content, receipt=asks)
        except (TypeError, ValueError, RecursionError) as error:
            # The sender is not at fault, and nothing needs to end because of it.
            failure = ForwardFailed("refused", f"follower {follower.account}/{follower.session}")
            failure.__cause__ = error
            self._hub.receiver.problem(failure, key=follower.name, session=session)
            return
        if asks:
            checked[follower.name] = now
            delivery.add_done_callback(lambda done: self._look(session, follower, done.result()))

    def _look(self, session: Session, follower: Follower, receipt: Receipt) -> None:
        """Remove a follower that no longer exists."""
        if receipt == UNKNOWN_SESSION and session.connection is not None:
            self._run(self._change_here(session, follower, adds=False))

    # Lifecycle of sessions

    def opened(self, session: Session, stored: Sequence[bytes]) -> None:
        """Restore the followers of a session that has reconnected."""
        if stored and (followers := read_followers(stored)):
            session.demand(Follows).followers = {follower.name: follower for follower in followers}
            self._note(session)

    def arrived(self, session: Session) -> None:
        """Tap a session that was handed off to this node, if it has followers."""
        if session.peek(Follows) is not None:
            self._note(session)

    def left(self, session: Session) -> None:
        """Remove the tap of a session that has moved to another node."""
        self._hub.untap(session, self._mirror)

    def ended(self, session: Session, reason: CloseReason) -> None:
        """Unfollow on behalf of a session that has ended; its own followers remain in its set for a while."""
        follows = session.peek(Follows)
        if follows is not None:
            for name in tuple(follows.following):
                self._run(self._change(name, Follower(session.account, session.id), adds=False))
        self.left(session)


def demand_own(follower: Session, name: Name) -> None:
    """
    Allow a session to follow only sessions of its own account.

    Raises:
        Refused: if the accounts differ.

    """
    if follower.account != name[0]:
        raise Refused(403, "a session may follow those of its own account: the accounts differ")


def _note_followed(follower: Session, name: Name, *, received: bool) -> None:
    """Record that a session follows another, and whether it also gets what that one receives."""
    follows = follower.demand(Follows)
    follows.following.add(name)
    (follows.listening.add if received else follows.listening.discard)(name)


def _follows(session: Session, name: Name) -> bool:
    return session.connection is not None and name in session.demand(Follows).following


def _forget_followed(follower: Session, name: Name) -> None:
    follows = follower.demand(Follows)
    follows.following.discard(name)
    follows.listening.discard(name)

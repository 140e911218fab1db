"""
What clients ask of channels: to join and to leave them.

A request takes its turn among the messages of its session, and is answered or refused like
an event.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from msgspec import UNSET

from primacron.channels.kinds import Kind, Kinds
from primacron.dialects.base import ChannelRequest, Dialect, Joined, Joining
from primacron.errors import Refused, ValidationFailed
from primacron.features.channels.entrance import Entrance
from primacron.features.channels.feature import Channels, describe
from primacron.features.channels.local import Channel
from primacron.features.channels.members import Seen
from primacron.positions import Position
from primacron.sessions.lifecycle import DELIVERABLE
from primacron.sessions.memberships import Memberships
from primacron.sessions.session import Session


class Joins:
    """Lets clients join the channels of the kinds that there are; ``aware`` returns the dialect for those that do."""

    def __init__(self, kinds: Kinds, channels: Channels, aware: Callable[[Dialect], Dialect]) -> None:
        self._kinds = kinds
        self._channels = channels
        self._aware = aware

    async def ask(self, session: Session, request: ChannelRequest, answer: Callable[[Joined | None], None]) -> None:
        """
        Do what a client asks, and ``answer`` it; for the context of application code.

        Raises:
            Refused: if no client may join this channel, or this one may not.
            ValidationFailed, ChannelNameTooLong: if the channel cannot have this name.
            TooManyChannels: if the session is in too many.
            BackendUnavailable: if the channel has a history, which cannot be read now.

        The application's function may raise anything else.

        """
        name = request.channel
        if isinstance(request, Joining):
            self._opt_in(session)
        found = self._kinds.find(name)
        if found is None:
            raise Refused(403, f"no channel {name!r} that clients may join")
        if isinstance(request, Joining):
            await self._join(session, request, *found, answer)
        else:
            self._channels.leave_here(session, name)
            answer(None)

    def _opt_in(self, session: Session) -> None:
        """From now on tell the client about its channels."""
        session.demand(Memberships).is_aware = True
        connection = session.connection
        aware = None if connection is None else self._aware(connection.dialect)
        if connection is not None and aware is not None and aware is not connection.dialect:
            connection.dialect = aware
            self._channels.presences.opted_in(session)

    async def _join(
        self,
        session: Session,
        request: Joining,
        kind: Kind,
        args: tuple[Any, ...],
        answer: Callable[[Joined | None], None],
    ) -> None:
        name = request.channel
        self._channels.demand_place(session, name)
        if request.last is not UNSET and request.last > kind.history:
            raise ValidationFailed(f"Expected `int` <= {kind.history}", "$.last")
        info = None
        if kind.function is not None:
            info = kind.function(session, *args)
            if inspect.isawaitable(info):
                info = await info
        packed = self._channels.pack_info(info)
        channel = await self._channels.prepare(name, kind)
        joined, entrance = Joined(name), None
        if kind.history:
            admitted = await self._admit(session, request, channel, kind)
            if admitted is None:
                return
            joined, entrance = admitted
        entry = _Entry(self._channels, session, joined, entrance, answer)
        try:
            if kind.presence:
                join = partial(entry.join, info, packed)
                await self._channels.presences.enter(session, channel, join, entry.tell_members)
            elif entry.join(info, packed):
                entry.tell()
        finally:
            entry.abandon()

    async def _admit(
        self, session: Session, request: Joining, channel: Channel, kind: Kind
    ) -> tuple[Joined, Entrance | None] | None:
        since = None if request.since is UNSET else Position(request.since.epoch, request.since.offset)
        last = 0 if request.last is UNSET else request.last
        admitted = await self._channels.histories.admit(session, channel, kind, since, last)
        if admitted is None:
            return None
        answer, entrance = admitted
        return describe(request.channel, answer), entrance


class _Entry:
    """The last steps of a join, between which the session must not get anything else of the channel."""

    __slots__ = ("_answer", "_channels", "_entrance", "_joined", "_session")

    def __init__(
        self,
        channels: Channels,
        session: Session,
        joined: Joined,
        entrance: Entrance | None,
        answer: Callable[[Joined], None],
    ) -> None:
        self._channels = channels
        self._session = session
        self._joined = joined
        self._entrance = entrance
        self._answer = answer

    def join(self, info: Any, packed: msgspec.Raw) -> bool:
        """
        Join, and return whether the session is here to be answered.

        Raises:
            TooManyChannels: if it is in too many by now.

        """
        name = self._joined.channel
        if self._session.state not in DELIVERABLE:
            self._channels.join(self._session, name, info)  # wherever it is by now
            return False
        self._channels.demand_place(self._session, name)
        self._channels.join_here(self._session, name, packed)
        return True

    def tell_members(self, seen: Seen) -> None:
        """Answer with who is there."""
        seen.fill(self._joined)
        self.tell()

    def tell(self) -> None:
        """Answer, and send what waits behind that."""
        if self._entrance is None:
            # Nothing was held since the position was found: what was delivered is in front of the answer.
            self._channels.renew_position(self._session, self._joined)
        self._answer(self._joined)
        if self._entrance is not None:
            self._entrance.release()
            self._entrance = None

    def abandon(self) -> None:
        """Forget what waits, if there was no answer."""
        if self._entrance is not None:
            self._entrance.abandon()

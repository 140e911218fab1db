"""
What clients ask of channels: to join and to leave them.

A request takes its turn among the messages of its session, and is answered or refused like
an event.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from primacron.channels.kinds import Kind, Kinds
from primacron.dialects.base import ChannelRequest, Dialect, Joined, Leaving
from primacron.errors import Refused
from primacron.features.channels.feature import Channels
from primacron.sessions.lifecycle import DELIVERABLE
from primacron.sessions.memberships import Memberships
from primacron.sessions.session import Session


class Joins:
    """Lets clients join the channels of the kinds that there are; ``aware`` returns the dialect for those that do."""

    def __init__(self, kinds: Kinds, channels: Channels, aware: Callable[[Dialect], Dialect]) -> None:
        self._kinds = kinds
        self._channels = channels
        self._aware = aware

    async def ask(self, session: Session, request: ChannelRequest) -> Joined | None:
        """
        Do what a client asks, and return the answer; for the context of application code.

        Raises:
            Refused: if no client may join this channel, or this one may not.
            ValidationFailed, ChannelNameTooLong: if the channel cannot have this name.
            TooManyChannels: if the session is in too many.

        The application's function may raise anything else.

        """
        name = request.channel
        is_leaving = isinstance(request, Leaving)
        if not is_leaving:
            self._opt_in(session)
        found = self._kinds.find(name)
        if found is None:
            raise Refused(403, f"no channel {name!r} that clients may join")
        if is_leaving:
            self._channels.leave_here(session, name)
            return None
        return await self._join(session, name, *found)

    def _opt_in(self, session: Session) -> None:
        """From now on tell the client about its channels."""
        session.demand(Memberships).is_aware = True
        if session.connection is not None:
            session.connection.dialect = self._aware(session.connection.dialect)

    async def _join(self, session: Session, name: str, kind: Kind, args: tuple[Any, ...]) -> Joined | None:
        self._channels.demand_place(session, name)
        info = None
        if kind.function is not None:
            info = kind.function(session, *args)
            if inspect.isawaitable(info):
                info = await info
        packed = self._channels.pack_info(info)
        await self._channels.prepare(name, kind)
        if session.state not in DELIVERABLE:
            self._channels.join(session, name, info)  # wherever it is by now
            return None
        self._channels.demand_place(session, name)
        self._channels.join_here(session, name, packed)
        return Joined(name)

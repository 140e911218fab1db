"""
Acts: operations on many sessions.

An act is applied at once to the sessions of this node, and later to those in transit; it is
serialized for other nodes. A new kind of act is a class in this module.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import cache
from typing import Any, ClassVar, Union

import msgspec

from primacron.content import AnyContent
from primacron.dialects.encoding import Encoding
from primacron.protocol.close_reasons import forced
from primacron.protocol.engine import ENDED
from primacron.routing.audience import Audience
from primacron.routing.local import Local
from primacron.routing.options import PLAIN, SendOptions
from primacron.sessions.recent import Serial
from primacron.sessions.session import Session


class Act(msgspec.Struct, array_like=True, frozen=True):
    """An operation on sessions; its ``serial`` ensures that it is applied once to a session that moves."""

    #: Whether it is held for a session in transit even if the limit is reached.
    must_arrive: ClassVar[bool] = False

    @abstractmethod
    def apply(self, local: Local, audience: Audience, serial: Serial | None) -> int:
        """
        Apply it to the sessions of an audience on this node; return their number.

        Raises:
            TypeError, ValueError: if it cannot be applied; it has then been applied to none.

        """

    @abstractmethod
    def apply_late(self, local: Local, serial: Serial, session: Session) -> None:
        """Apply it to a session that was in transit, unless it has been applied already."""

    def spares(self, session: Session) -> bool:
        """Tell whether it excludes a session of its audience."""
        return False

    def pack(self, encoding: Encoding) -> bytes:
        """
        Serialize the act.

        Raises:
            TypeError: if a value cannot be encoded.
            ValueError: if a number is NaN, infinite, or too large.

        """
        return encoding.pack(self)


class Deliver(Act, tag="deliver", frozen=True):
    """Deliver content."""

    content: AnyContent
    options: SendOptions = PLAIN

    def apply(self, local: Local, audience: Audience, serial: Serial | None) -> int:
        """Apply it to the connections of the audience on this node."""
        return local.deliver_many(audience, self.content, self.options, serial)

    def apply_late(self, local: Local, serial: Serial, session: Session) -> None:
        """Apply it to one session, at most once."""
        local.deliver_once(session, self.content, self.options, serial)

    def spares(self, session: Session) -> bool:
        """Tell whether the options exclude a session."""
        return self.options.excludes(session)


class Disconnect(Act, tag="disconnect", frozen=True):
    """Close the connections."""

    must_arrive: ClassVar[bool] = True

    reason: str

    def apply(self, local: Local, audience: Audience, serial: Serial | None) -> int:
        """Apply it to the connections of the audience on this node."""
        connections = [each for each in audience.connections(local.hub) if each.phase not in ENDED]
        for connection in connections:
            connection.end(forced(self.reason))
        return len(connections)

    def apply_late(self, local: Local, serial: Serial, session: Session) -> None:
        """Apply it to one session, at most once."""
        session.disconnect(self.reason)


class Join(Act, tag="join", frozen=True):
    """Put the sessions into a channel."""

    must_arrive: ClassVar[bool] = True

    channel: str
    info: Any = None

    def apply(self, local: Local, audience: Audience, serial: Serial | None) -> int:
        """Put the sessions of the audience on this node into the channel; return how many are in it now."""
        sessions = [session for session in audience.sessions(local.hub) if session.connected]
        for session in sessions:
            local.hub.channels.join(session, self.channel, self.info)
        return sum(self.channel in session.channels for session in sessions)

    def apply_late(self, local: Local, serial: Serial, session: Session) -> None:
        """Apply it to one session."""
        local.hub.channels.join(session, self.channel, self.info)


class Leave(Act, tag="leave", frozen=True):
    """Take the sessions out of a channel."""

    must_arrive: ClassVar[bool] = True

    channel: str

    def apply(self, local: Local, audience: Audience, serial: Serial | None) -> int:
        """Take the sessions of the audience on this node out of the channel; return their number."""
        sessions = [session for session in audience.sessions(local.hub) if session.connected]
        for session in sessions:
            local.hub.channels.leave(session, self.channel)
        return len(sessions)

    def apply_late(self, local: Local, serial: Serial, session: Session) -> None:
        """Apply it to one session."""
        local.hub.channels.leave(session, self.channel)


class Count(Act, tag="count", frozen=True):
    """Count the sessions."""

    def apply(self, local: Local, audience: Audience, serial: Serial | None) -> int:
        """Return the number of sessions of the audience on this node."""
        return len(audience.connections(local.hub))

    def apply_late(self, local: Local, serial: Serial, session: Session) -> None:
        """Do nothing: a session in transit makes the count uncertain."""


@cache
def _decoder() -> msgspec.msgpack.Decoder[Act]:
    """Return the decoder for all kinds."""
    return msgspec.msgpack.Decoder(Union[tuple(Act.__subclasses__())])  # noqa: UP007


def unpack_act(packed: bytes | msgspec.Raw) -> Act:
    """
    Decode an act from another node.

    Raises:
        ValueError: if it is malformed, or of a kind unknown to this node.

    """
    try:
        act = _decoder().decode(packed)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise ValueError(f"act: {error}") from None
    return act

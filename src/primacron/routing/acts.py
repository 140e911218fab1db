"""
What is done to many sessions.

An act is done at once to those that are here, and later to those that are in transit;
it travels as it is. A new one is a class here.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Final

import msgspec

from primacron.content import AnyContent
from primacron.dialects.encoding import Encoding
from primacron.entries import Name
from primacron.protocol.close_reasons import forced
from primacron.protocol.engine import ENDED
from primacron.routing.audience import Audience
from primacron.routing.local import Local
from primacron.routing.options import PLAIN, SendOptions
from primacron.sessions.recent import Serial
from primacron.sessions.session import Session


class Act(msgspec.Struct, array_like=True, frozen=True):
    """Something that is done to sessions; ``serial`` numbers it, so that a session which moves has it done once."""

    #: Whether it waits for a session in transit however much does already.
    must_arrive: ClassVar[bool] = False

    @abstractmethod
    def apply(self, local: Local, audience: Audience, serial: Serial | None) -> int:
        """
        Do it to those of an audience that are here; return to how many.

        Raises:
            TypeError, ValueError: if it cannot be done to anybody; it was done to nobody then.

        """

    @abstractmethod
    def apply_late(self, local: Local, serial: Serial, session: Session) -> None:
        """Do it to a session that was in transit, unless it was done already."""

    def spares(self, name: Name) -> bool:
        """Tell whether it leaves out a session of its audience."""
        return False

    def pack(self, encoding: Encoding) -> bytes:
        """
        Return it as it travels.

        Raises:
            TypeError: if a value cannot be encoded.
            ValueError: if a number is NaN, infinite, or too large.

        """
        return encoding.pack(self)


class Deliver(Act, tag="deliver", frozen=True):
    """Send content."""

    content: AnyContent
    options: SendOptions = PLAIN

    def apply(self, local: Local, audience: Audience, serial: Serial | None) -> int:
        """See :meth:`Act.apply`."""
        return local.deliver_many(audience, self.content, self.options, serial)

    def apply_late(self, local: Local, serial: Serial, session: Session) -> None:
        """See :meth:`Act.apply_late`."""
        local.deliver_once(session, self.content, self.options, serial)

    def spares(self, name: Name) -> bool:
        """See :meth:`Act.spares`."""
        return name in self.options.left_out


class Disconnect(Act, tag="disconnect", frozen=True):
    """Close the connections."""

    must_arrive: ClassVar[bool] = True

    reason: str

    def apply(self, local: Local, audience: Audience, serial: Serial | None) -> int:
        """See :meth:`Act.apply`."""
        connections = [each for each in audience.connections(local.hub) if each.phase not in ENDED]
        for connection in connections:
            connection.end(forced(self.reason))
        return len(connections)

    def apply_late(self, local: Local, serial: Serial, session: Session) -> None:
        """See :meth:`Act.apply_late`."""
        session.disconnect(self.reason)


_DECODER: Final = msgspec.msgpack.Decoder(Deliver | Disconnect)


def unpack_act(packed: bytes | msgspec.Raw) -> Act:
    """
    Read what another node does.

    Raises:
        ValueError: if it is malformed, or of a kind that this node does not know.

    """
    try:
        act: Act = _DECODER.decode(packed)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise ValueError(f"act: {error}") from None
    return act

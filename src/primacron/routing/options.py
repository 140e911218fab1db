"""Options of a send."""

from __future__ import annotations

from typing import Final

import msgspec

from primacron.entries import Name
from primacron.receipts import Receipt
from primacron.sessions.recent import Recent, Serial
from primacron.sessions.send_keys import SendKeys
from primacron.sessions.session import Session


class SendOptions(msgspec.Struct, array_like=True, frozen=True):
    """Options of a send, in serializable form: see :meth:`primacron.routing.targets.Target.emit`."""

    volatile: bool = False
    key: str | None = None
    left_out: frozenset[Name] = frozenset()
    #: Channels whose members are excluded.
    left_out_channels: frozenset[str] = frozenset()

    def excludes(self, session: Session) -> bool:
        """Tell whether a session is excluded."""
        if self.left_out and (session.account, session.id) in self.left_out:
            return True
        return bool(self.left_out_channels) and not self.left_out_channels.isdisjoint(session.channels)

    def is_known_by(self, session: Session, now: float, serial: Serial | None) -> bool:
        """Tell whether a session must not receive this send, as it is excluded or has already received it."""
        if self.excludes(session):
            return True
        recent = session.peek(Recent)
        return (recent is not None and serial in recent.serials) or self.receipt_of(session, now) is not None

    def receipt_of(self, session: Session, now: float) -> Receipt | None:
        """Return the receipt of an earlier send to the session with this key."""
        keys = None if self.key is None else session.peek(SendKeys)
        return None if keys is None or self.key is None else keys.receipt_of(self.key, now)


PLAIN: Final = SendOptions()

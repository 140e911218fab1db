"""What is asked of other nodes for a connection that is not here, where there are none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NoReturn

from primacron.errors import UnknownSid
from primacron.ids import Sid, SidIssuer, is_well_formed_sid
from primacron.web import HttpRequest


class AllHere:
    """
    Stands in for the forwarder and for incoming upgrades where there are no other nodes.

    See :class:`primacron.node.forwarding.Forwarder` and :class:`primacron.handoff.upgrade.IncomingUpgrades`.

    A connection that is not here is nowhere.
    """

    is_ending: Final = False

    def __init__(self, issuer: SidIssuer) -> None:
        self._issuer = issuer
        self.has_left = False

    def is_elsewhere(self, sid: str) -> bool:
        """See :meth:`Forwarder.is_elsewhere`."""
        return False

    def unknown(self, sid: str) -> UnknownSid:
        """See :meth:`Forwarder.unknown`."""
        return UnknownSid(foreign=is_well_formed_sid(sid) and not self._issuer.is_ours(sid))

    def send(self, request: HttpRequest, sid: str, body: bytes, done: Callable[..., None]) -> NoReturn:
        """See :meth:`Forwarder.send`."""
        raise self.unknown(sid)

    async def ask(self, sid: Sid, account: str | None) -> NoReturn:
        """See :meth:`IncomingUpgrades.ask`."""
        raise self.unknown(sid)

    def finish(self) -> None:
        """See :meth:`Forwarder.finish` and :meth:`IncomingUpgrades.finish`: nothing is under way."""

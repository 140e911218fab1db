"""What is asked of other nodes for a connection that is not here, where there are none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NoReturn

from primacron.errors import UnknownSid
from primacron.ids import Sid, SidIssuer, is_well_formed_sid
from primacron.web import HttpRequest


class AllHere:
    """
    In the place of :class:`primacron.node.carrying.Carrying` and :class:`primacron.handoff.upgrade.IncomingUpgrades`.

    A connection that is not here is nowhere.
    """

    is_ending: Final = False

    def __init__(self, issuer: SidIssuer) -> None:
        self._issuer = issuer
        self.has_left = False

    def is_elsewhere(self, sid: str) -> bool:
        """See :meth:`Carrying.is_elsewhere`."""
        return False

    def unknown(self, sid: str) -> UnknownSid:
        """See :meth:`Carrying.unknown`."""
        return UnknownSid(foreign=is_well_formed_sid(sid) and not self._issuer.is_ours(sid))

    def send(self, request: HttpRequest, sid: str, body: bytes, done: Callable[..., None]) -> NoReturn:
        """See :meth:`Carrying.send`."""
        raise self.unknown(sid)

    async def ask(self, sid: Sid, account: str | None) -> NoReturn:
        """See :meth:`IncomingUpgrades.ask`."""
        raise self.unknown(sid)

    def finish(self) -> None:
        """See :meth:`Carrying.finish` and :meth:`IncomingUpgrades.finish`: nothing is under way."""

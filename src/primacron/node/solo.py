"""Lookup of connections on other nodes, for a node that is the only one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NoReturn

from primacron.errors import UnknownSid
from primacron.ids import Sid, SidIssuer, is_well_formed_sid
from primacron.web import HttpRequest


class AllHere:
    """
    Replaces the forwarder and the incoming upgrades on a node that is the only one.

    It has the methods of :class:`primacron.node.forwarding.Forwarder` and
    :class:`primacron.handoff.upgrade.IncomingUpgrades` that the node calls. A connection that is
    not on this node does not exist.
    """

    is_ending: Final = False

    def __init__(self, issuer: SidIssuer) -> None:
        self._issuer = issuer
        self.has_left = False

    def is_elsewhere(self, sid: str) -> bool:
        """Return False, as there are no other nodes."""
        return False

    def unknown(self, sid: str) -> UnknownSid:
        """Return the error, which tells whether another process issued the sid."""
        return UnknownSid(foreign=is_well_formed_sid(sid) and not self._issuer.is_ours(sid))

    def send(self, request: HttpRequest, sid: str, body: bytes, done: Callable[..., None]) -> NoReturn:
        """Raise, as there is no node to forward to."""
        raise self.unknown(sid)

    async def ask(self, sid: Sid, account: str | None) -> NoReturn:
        """Raise, as there is no node to ask."""
        raise self.unknown(sid)

    def finish(self) -> None:
        """Do nothing, as nothing is in progress."""

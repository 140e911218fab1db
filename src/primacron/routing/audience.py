"""
Whom something that is sent to many is for.

An audience travels as it is, so that every node finds those of its own. A new one is a
class, here or beside the feature that it belongs to: nothing else needs to know how many
there are.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import cache
from typing import ClassVar, Final, Union

import msgspec

from primacron.cluster.finder import Finder
from primacron.ids import AccountId, NodeId
from primacron.sessions.connection import Connection
from primacron.sessions.hub import Hub
from primacron.sessions.session import Session


class Audience(msgspec.Struct, array_like=True, frozen=True):
    """Some of all sessions."""

    #: Whether all nodes are sent to, without a question who of them has such sessions.
    is_everywhere: ClassVar[bool] = False
    #: What sends have in common that come in the order of their sender.
    kind: ClassVar[str]

    @abstractmethod
    def matches(self, session: Session) -> bool:
        """Tell whether a session belongs to it."""

    @abstractmethod
    def sessions(self, hub: Hub) -> list[Session]:
        """Return those of this node; some may be in transit to another one."""

    def connections(self, hub: Hub) -> list[Connection]:
        """Return the connections of those that are delivered to here."""
        return [session.connection for session in self.sessions(hub) if session.connection is not None]

    async def nodes(self, finder: Finder) -> tuple[set[NodeId], bool]:
        """
        Return the nodes that have such sessions, and whether those are certainly all.

        Raises:
            BackendUnavailable: if that cannot be said now.

        """
        raise NotImplementedError  # asked only of those that are not everywhere


class Everyone(Audience, tag="everyone", frozen=True):
    """All sessions."""

    is_everywhere: ClassVar[bool] = True
    kind: ClassVar[str] = "everyone"

    def matches(self, session: Session) -> bool:
        """See :meth:`Audience.matches`."""
        return True

    def sessions(self, hub: Hub) -> list[Session]:
        """See :meth:`Audience.sessions`."""
        return [*hub.sessions]

    def connections(self, hub: Hub) -> list[Connection]:
        """See :meth:`Audience.connections`: that of a session which was replaced just now takes nothing."""
        return [*hub.connections.values()]


class Account(Audience, tag="account", frozen=True):
    """All sessions of an account."""

    kind: ClassVar[str] = "account"

    id: AccountId

    def matches(self, session: Session) -> bool:
        """See :meth:`Audience.matches`."""
        return session.account == self.id

    def sessions(self, hub: Hub) -> list[Session]:
        """See :meth:`Audience.sessions`."""
        return hub.sessions.of(self.id)

    async def nodes(self, finder: Finder) -> tuple[set[NodeId], bool]:
        """See :meth:`Audience.nodes`."""
        entries, is_certain = await finder.sessions(self.id)
        return {entry.node for entry in entries}, is_certain


EVERYONE: Final = Everyone()


@cache
def _decoder() -> msgspec.msgpack.Decoder[Audience]:
    """Return what reads all that there are; not made before the first one comes, as features have some of their own."""
    return msgspec.msgpack.Decoder(Union[tuple(Audience.__subclasses__())])  # noqa: UP007


def pack_audience(audience: Audience) -> msgspec.Raw:
    """Return an audience as it travels."""
    return msgspec.Raw(msgspec.msgpack.encode(audience))


def unpack_audience(packed: msgspec.Raw) -> Audience:
    """
    Read an audience that another node has named.

    Raises:
        ValueError: if it is malformed, or of a kind that this node does not know.

    """
    try:
        audience = _decoder().decode(packed)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise ValueError(f"audience: {error}") from None
    return audience

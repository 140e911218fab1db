"""
Audiences: the sessions that a fan-out addresses.

An audience is serialized as a description, which each node resolves to its own sessions. A
new kind is a class in this module or in that of its feature; no other code lists the kinds.
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
from primacron.sessions.memberships import Memberships
from primacron.sessions.session import Session


class Audience(msgspec.Struct, array_like=True, frozen=True):
    """A subset of the sessions in the cluster."""

    #: Whether to send to all nodes, without a lookup of those that have such sessions.
    is_everywhere: ClassVar[bool] = False

    @property
    @abstractmethod
    def kind(self) -> str:
        """What sends of one sender have in common that must arrive in order."""

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics by which its nodes are reached; none if they are looked up."""
        return ()

    @abstractmethod
    def matches(self, session: Session) -> bool:
        """Tell whether a session belongs to the audience."""

    @abstractmethod
    def sessions(self, hub: Hub) -> list[Session]:
        """Return the sessions on this node; some may be in transit to another one."""

    def connections(self, hub: Hub) -> list[Connection]:
        """Return the connections of the sessions that this node delivers to."""
        return hub.connections_of(self.sessions(hub))

    async def nodes(self, finder: Finder) -> tuple[set[NodeId], bool]:
        """
        Look up the nodes that have such sessions; return whether the list is certain to be complete as well.

        Raises:
            BackendUnavailable: if that cannot be determined now.

        """
        raise NotImplementedError  # not called if is_everywhere, or if there are topics


class Everyone(Audience, tag="everyone", frozen=True):
    """All sessions."""

    is_everywhere: ClassVar[bool] = True

    @property
    def kind(self) -> str:
        """All of them."""
        return "everyone"

    def matches(self, session: Session) -> bool:
        """Tell whether a session belongs to the audience."""
        return True

    def sessions(self, hub: Hub) -> list[Session]:
        """Return the sessions on this node."""
        return [*hub.sessions]

    def connections(self, hub: Hub) -> list[Connection]:
        """Return all connections of this node; that of a session just replaced discards what it is sent."""
        return [*hub.connections.values()]


class Channels(Audience, tag="channels", frozen=True):
    """The sessions that are in at least one of some channels."""

    names: tuple[str, ...]

    @property
    def kind(self) -> str:
        """The channels: sends to others may arrive in a different order."""
        return " ".join(("channels", *self.names))

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that the nodes of such sessions have subscribed to."""
        return self.names

    def matches(self, session: Session) -> bool:
        """Tell whether a session belongs to the audience."""
        memberships = session.peek(Memberships)
        return memberships is not None and any(name in memberships.channels for name in self.names)

    def sessions(self, hub: Hub) -> list[Session]:
        """Return the sessions on this node, each once."""
        return [*self._members(hub)]

    def connections(self, hub: Hub) -> list[Connection]:
        """Return the connections of the sessions that this node delivers to."""
        return hub.connections_of(self._members(hub))

    def _members(self, hub: Hub) -> set[Session]:
        """Return the sessions on this node; of one channel its own set, which the caller must not change."""
        groups = [group for name in self.names if (group := hub.groups.get(name))]
        return groups[0] if len(groups) == 1 else set().union(*groups)


class Account(Audience, tag="account", frozen=True):
    """All sessions of an account."""

    id: AccountId

    @property
    def kind(self) -> str:
        """All of them."""
        return "account"

    def matches(self, session: Session) -> bool:
        """Tell whether a session belongs to the audience."""
        return session.account == self.id

    def sessions(self, hub: Hub) -> list[Session]:
        """Return the sessions on this node."""
        return hub.sessions.of(self.id)

    async def nodes(self, finder: Finder) -> tuple[set[NodeId], bool]:
        """Look the nodes up in the registry."""
        entries, is_certain = await finder.sessions(self.id)
        return {entry.node for entry in entries}, is_certain


EVERYONE: Final = Everyone()


@cache
def _decoder() -> msgspec.msgpack.Decoder[Audience]:
    """Return the decoder for all kinds; built on first use, after features have defined their own."""
    return msgspec.msgpack.Decoder(Union[tuple(Audience.__subclasses__())])  # noqa: UP007


def pack_audience(audience: Audience) -> msgspec.Raw:
    """Serialize an audience."""
    return msgspec.Raw(msgspec.msgpack.encode(audience))


def unpack_audience(packed: msgspec.Raw) -> Audience:
    """
    Decode an audience from another node.

    Raises:
        ValueError: if it is malformed, or of a kind unknown to this node.

    """
    try:
        audience = _decoder().decode(packed)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise ValueError(f"audience: {error}") from None
    return audience

"""The channels that a session is in."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import msgspec

from primacron.ids import NodeId


class Membership(msgspec.Struct, array_like=True):
    """A session's place in a channel of a kind: what the others see of it, and how far it has received its history."""

    info: msgspec.Raw | None = None
    epoch: str = ""
    offset: int = 0


class Memberships:
    """
    The channels of a session by name, as a :class:`FeatureState`; a room has no :class:`Membership`.

    ``is_aware`` tells that the client has asked for envelopes of channels.
    """

    __slots__ = ("channels", "is_aware")

    name: ClassVar[str] = "channels"

    def __init__(self) -> None:
        self.channels: dict[str, Membership | None] = {}
        self.is_aware = False

    def dump(self, node: NodeId, now: float) -> Any:
        """Pack the channels; None without any."""
        return (self.channels, self.is_aware) if self.channels or self.is_aware else None

    def load(self, packed: msgspec.Raw, now: float) -> None:
        """Restore the channels from another node's snapshot."""
        self.channels, self.is_aware = _DECODER.decode(packed)


_DECODER: Final = msgspec.msgpack.Decoder(tuple[dict[str, Membership | None], bool])

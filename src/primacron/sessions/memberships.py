"""The channels that a session is in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol

import msgspec

from primacron.dialects.encoding import NIL
from primacron.ids import NodeId
from primacron.positions import Position


class Progress(Protocol):
    """How far a session has received the history of a channel."""

    @property
    def position(self) -> Position | None:
        """The last position that it has received; None if it has none yet."""


@dataclass(frozen=True, slots=True)
class Halted:
    """The progress of a session that gets nothing at the moment."""

    position: Position | None = None


NONE_YET: Final = Halted()


class Sight(Protocol):
    """What a session was told of the other members of a channel."""

    @property
    def digest(self) -> int:
        """A number that stands for them, and is the same on all nodes; 0 if it was told nothing."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a session was told on another node."""

    digest: int = 0


NOT_SEEN: Final = Remembered()


class Membership:
    """
    A session's place in a channel of a kind.

    ``info`` is what the others see of it, and ``seen`` what it was told of them; ``progress``
    tells how far it has received the history.
    """

    __slots__ = ("info", "progress", "seen")

    def __init__(self, info: msgspec.Raw = NIL, progress: Progress = NONE_YET) -> None:
        self.info = info
        self.progress = progress
        self.seen: Sight = NOT_SEEN


class _Packed(msgspec.Struct, array_like=True):
    info: msgspec.Raw = NIL
    epoch: str = ""
    offset: int = 0
    seen: int = 0


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
        if not self.channels and not self.is_aware:
            return None
        return {name: None if each is None else _pack(each) for name, each in self.channels.items()}, self.is_aware

    def load(self, packed: msgspec.Raw, now: float) -> None:
        """Restore the channels from another node's snapshot."""
        channels, self.is_aware = _DECODER.decode(packed)
        self.channels = {name: None if each is None else _unpack(each) for name, each in channels.items()}


def _pack(membership: Membership) -> _Packed:
    position, seen = membership.progress.position, membership.seen.digest
    epoch, offset = ("", 0) if position is None else (position.epoch, position.offset)
    return _Packed(membership.info, epoch, offset, seen)


def _unpack(packed: _Packed) -> Membership:
    progress = Halted(Position(packed.epoch, packed.offset)) if packed.epoch else NONE_YET
    # The bytes of the snapshot are not kept for the sake of a part.
    membership = Membership(msgspec.Raw(bytes(packed.info)), progress)
    membership.seen = Remembered(packed.seen) if packed.seen else NOT_SEEN
    return membership


_DECODER: Final = msgspec.msgpack.Decoder(tuple[dict[str, _Packed | None], bool])

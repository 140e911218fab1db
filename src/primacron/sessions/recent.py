"""What was done to many around a move, by its number: to a session that moves it is done once."""

from __future__ import annotations

from typing import Any, ClassVar, Final, TypeAlias

import msgspec

from primacron.ids import NodeId

#: Something that was done to many: the node that asked for it, and its number there.
Serial: TypeAlias = tuple[NodeId, int]


class Recent:
    """The numbers of what was done to a session around a move; see :class:`FeatureState`."""

    __slots__ = ("serials",)

    name: ClassVar[str] = "recent"

    def __init__(self) -> None:
        self.serials: set[Serial] = set()

    def dump(self, node: NodeId, now: float) -> Any:
        """See :meth:`FeatureState.dump`."""
        return [*self.serials] or None

    def load(self, packed: msgspec.Raw, now: float) -> None:
        """See :meth:`FeatureState.load`."""
        self.serials.update(_DECODER.decode(packed))


_DECODER: Final = msgspec.msgpack.Decoder(list[Serial])

"""What was done to many around a move, by its number: to a session that moves it is done once."""

from __future__ import annotations

from typing import Any, ClassVar, Final, TypeAlias

import msgspec

from primacron.ids import NodeId

#: Something that was done to many: the node that asked for it, and its number there.
Serial: TypeAlias = tuple[NodeId, int]


class Recent:
    """
    The numbers of what was done to a session around a move; see :class:`FeatureState`.

    Each with the kind of its audience, within which its sender's order holds; empty
    where that is not known.
    """

    __slots__ = ("serials",)

    name: ClassVar[str] = "recent"

    def __init__(self) -> None:
        self.serials: dict[Serial, str] = {}

    def latest(self) -> dict[tuple[NodeId, str], int]:
        """Return the highest number of each node and kind."""
        latest: dict[tuple[NodeId, str], int] = {}
        for (node, number), kind in self.serials.items():
            latest[node, kind] = max(number, latest.get((node, kind), 0))
        return latest

    def dump(self, node: NodeId, now: float) -> Any:
        """See :meth:`FeatureState.dump`."""
        return [(*serial, kind) for serial, kind in self.serials.items()] or None

    def load(self, packed: msgspec.Raw, now: float) -> None:
        """See :meth:`FeatureState.load`."""
        self.serials.update({(origin, number): kind for origin, number, kind in _DECODER.decode(packed)})


_DECODER: Final = msgspec.msgpack.Decoder(list[tuple[NodeId, int, str]])

"""Serial numbers of fan-outs around a move, so that none reaches the moving session twice."""

from __future__ import annotations

from typing import Any, ClassVar, Final, TypeAlias

import msgspec

from primacron.ids import NodeId

#: A fan-out: the node that originated it, and its number on that node.
Serial: TypeAlias = tuple[NodeId, int]


class Recent:
    """
    The fan-outs that reached a session around a move, as a :class:`FeatureState`.

    Each is stored with the kind of its audience, within which the sender's order is kept;
    the kind is empty if it is not known.
    """

    __slots__ = ("is_behind", "serials")

    name: ClassVar[str] = "recent"

    def __init__(self) -> None:
        self.serials: dict[Serial, str] = {}
        #: Whether the node that the session came from may still pass on earlier fan-outs.
        self.is_behind = False

    def tell_kind(self, serial: Serial, kind: str) -> None:
        """Record the kind of audience of a fan-out, if that has reached the session."""
        if self.serials.get(serial) == "":
            self.serials[serial] = kind

    def latest(self) -> dict[tuple[NodeId, str], int]:
        """Return the highest number for each node and kind of audience."""
        latest: dict[tuple[NodeId, str], int] = {}
        for (node, number), kind in self.serials.items():
            latest[node, kind] = max(number, latest.get((node, kind), 0))
        return latest

    def dump(self, node: NodeId, now: float) -> Any:
        """Pack the serial numbers with their kinds; None without any."""
        return [(*serial, kind) for serial, kind in self.serials.items()] or None

    def load(self, packed: msgspec.Raw, now: float) -> None:
        """Add the serial numbers from another node's snapshot."""
        self.serials.update({(origin, number): kind for origin, number, kind in _DECODER.decode(packed)})


_DECODER: Final = msgspec.msgpack.Decoder(list[tuple[NodeId, int, str]])

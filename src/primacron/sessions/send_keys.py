"""Idempotency keys of sends to a session: a send that repeats a key is not delivered again."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import msgspec

from primacron.ids import NodeId
from primacron.receipts import Receipt

#: Seconds for which a key makes a send idempotent.
KEY_SECONDS: Final = 60.0
MAX_KEYS: Final = 1_024


class SendKeys:
    """The receipts of sends with a key, and when they expire, as a :class:`FeatureState`."""

    __slots__ = ("kept",)

    name: ClassVar[str] = "keys"

    def __init__(self) -> None:
        self.kept: dict[str, tuple[Receipt, float]] = {}

    def receipt_of(self, key: str, now: float) -> Receipt | None:
        """Return the receipt of an earlier send with this key, unless it has expired."""
        found = self.kept.get(key)
        return found[0] if found is not None and found[1] > now else None

    def remember(self, key: str, receipt: Receipt, now: float) -> None:
        """Store the receipt of a send, evicting expired receipts and, at the limit, the oldest."""
        kept = self.kept
        # Insertion order is expiry order, so the expired are in front.
        while kept and (len(kept) >= MAX_KEYS or next(iter(kept.values()))[1] <= now):
            del kept[next(iter(kept))]
        kept[key] = receipt, now + KEY_SECONDS

    def dump(self, node: NodeId, now: float) -> Any:
        """Pack the receipts with the seconds until they expire; None without any."""
        packed = [(key, receipt.status, receipt.certain, until - now) for key, (receipt, until) in self.kept.items()]
        return packed or None

    def load(self, packed: msgspec.Raw, now: float) -> None:
        """Restore the receipts; they expire when they would have on the other node."""
        for key, status, certain, left in _DECODER.decode(packed):
            self.kept[key] = Receipt(status, certain), now + left


_DECODER: Final = msgspec.msgpack.Decoder(list[tuple[str, str, bool, float]])

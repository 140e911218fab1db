"""The keys of sends that a session has got: what comes again with one of them is not delivered again."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import msgspec

from primacron.ids import NodeId
from primacron.receipts import Receipt

#: Seconds for which a key makes a send idempotent.
KEY_SECONDS: Final = 60.0
MAX_KEYS: Final = 1_024


class SendKeys:
    """The receipts of a session's sends with a key, and until when they are kept; see :class:`FeatureState`."""

    __slots__ = ("kept",)

    name: ClassVar[str] = "keys"

    def __init__(self) -> None:
        self.kept: dict[str, tuple[Receipt, float]] = {}

    def receipt_of(self, key: str, now: float) -> Receipt | None:
        """Return the receipt of an earlier send with this key."""
        found = self.kept.get(key)
        return found[0] if found is not None and found[1] > now else None

    def remember(self, key: str, receipt: Receipt, now: float) -> None:
        """Keep the receipt of a send."""
        kept = self.kept
        # In the order in which they came: those that are over stand first.
        while kept and (len(kept) >= MAX_KEYS or next(iter(kept.values()))[1] <= now):
            del kept[next(iter(kept))]
        kept[key] = receipt, now + KEY_SECONDS

    def dump(self, node: NodeId, now: float) -> Any:
        """See :meth:`FeatureState.dump`."""
        packed = [(key, receipt.status, receipt.certain, until - now) for key, (receipt, until) in self.kept.items()]
        return packed or None

    def load(self, packed: msgspec.Raw, now: float) -> None:
        """See :meth:`FeatureState.load`."""
        for key, status, certain, left in _DECODER.decode(packed):
            self.kept[key] = Receipt(status, certain), now + left


_DECODER: Final = msgspec.msgpack.Decoder(list[tuple[str, str, bool, float]])

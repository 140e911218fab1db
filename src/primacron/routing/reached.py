"""How many sessions one node has reached."""

from __future__ import annotations

from typing import NamedTuple


class Reached(NamedTuple):
    """How many sessions one node has reached, and whether those are certainly all; some may be in transit."""

    sessions: int
    is_certain: bool = True

"""The reach of a send on one node."""

from __future__ import annotations

from typing import NamedTuple


class Reached(NamedTuple):
    """The number of sessions reached on one node, and whether it is certain; some may be in transit."""

    sessions: int
    is_certain: bool = True

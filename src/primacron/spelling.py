"""Suggestions for misspelt names."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str], wrap: str = "{!r}", closeness: float = 0.6) -> str:
    """Return ``; did you mean 'bid'?`` with the closest known name, or an empty string; ``wrap`` formats the name."""
    by_lower = {each.lower(): each for each in sorted(known)}
    found = get_close_matches(name.lower(), by_lower, n=1, cutoff=closeness)
    return f"; did you mean {wrap.format(by_lower[found[0]])}?" if found else ""

"""What somebody may have meant who wrote a name that does not exist."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str], wrap: str = "{!r}") -> str:
    """Return ``; did you mean 'bid'?`` with the nearest of the known names, or nothing; ``wrap`` shows the name."""
    found = get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {wrap.format(found[0])}?" if found else ""

"""Names for test cases."""

from __future__ import annotations


def brief(value: object) -> str | None:
    """Return a short id for a long text; None leaves the choice to pytest."""
    if isinstance(value, str | bytes) and len(value) > 24:
        return f"{value[:8]!r}... ({len(value)})"
    return None

"""
Subclasses of ``str``, ``bytes``, ``int`` and ``float``, taken as what they are based on.

Applications pass members of a ``StrEnum``, safe strings of a template engine,
floats of numpy. Behind this border there are only the types themselves, so that
compiled modules, encoders and comparisons see one thing.
"""

from __future__ import annotations

from typing import Any


def as_name(value: Any, what: str) -> str:
    """
    Return a text as a ``str``.

    Raises:
        TypeError: naming what was to be a text, if it is none.

    """
    if value.__class__ is str:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    raise TypeError(f"{what}: expected a str, got {type(value).__qualname__}")


def as_native(value: Any) -> Any:
    """Return a text, bytes or a number without the subclass, anything else as it is."""
    kind = value.__class__
    if kind is str or kind is bytes or kind is bool:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes):
        return bytes(memoryview(value))
    if isinstance(value, int):
        return int.__int__(value)
    return float.__float__(value) if isinstance(value, float) else value

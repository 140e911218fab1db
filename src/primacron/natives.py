"""
Converts subclasses of ``str``, ``bytes``, ``int`` and ``float`` to the built-in types.

Applications pass members of a ``StrEnum``, safe strings of a template engine, NumPy
floats. Past this boundary there are only the built-in types, so that compiled modules,
encoders and comparisons all see the same thing.
"""

from __future__ import annotations

from typing import Any


def as_name(value: Any, what: str) -> str:
    """
    Return a string as a plain ``str``.

    Raises:
        TypeError: naming the parameter, if it is not a string.

    """
    if value.__class__ is str:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    raise TypeError(f"{what}: expected a str, got {type(value).__qualname__}")


def as_native(value: Any) -> Any:
    """Return a string, bytes or a number as its built-in type, anything else unchanged."""
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

"""What patterns mean, written down naively: by trying every way to divide a name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import product


def take_apart(pattern: str) -> tuple[list[str], list[str]]:
    """Return the literals around the fields, and the names of the fields."""
    parts = re.split(r"\{(\w+)\}", pattern)
    return parts[::2], parts[1::2]


def divisions(literals: Sequence[str], name: str) -> Iterator[tuple[str, ...]]:
    """Yield the texts of the fields in every way in which a name can be read, shorter first texts first."""
    first, *rest = literals
    if not name.startswith(first):
        return
    name = name[len(first) :]
    if not rest:
        if not name:
            yield ()
        return
    for length in range(1, len(name) + 1):
        if ":" in name[:length]:
            return
        for others in divisions(rest, name[length:]):
            yield (name[:length], *others)


def read(pattern: str, name: str) -> tuple[str, ...] | None:
    """Return the texts of the fields, or None if the name does not match."""
    return next(divisions(take_apart(pattern)[0], name), None)


def find(patterns: Sequence[str], name: str) -> tuple[str, tuple[str, ...]] | None:
    """Return the pattern that a name belongs to, with the texts of its fields."""
    matching = [(pattern, texts) for pattern in patterns if (texts := read(pattern, name)) is not None]
    return max(matching, key=lambda each: len(take_apart(each[0])[0][0]), default=None)


def names(alphabet: str, longest: int) -> Iterator[str]:
    """Yield every name of these characters."""
    for length in range(1, longest + 1):
        yield from map("".join, product(alphabet, repeat=length))

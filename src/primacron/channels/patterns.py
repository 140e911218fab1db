"""
Patterns of channel names: text with ``{fields}``.

A field stands for one or more characters without a colon. If what follows it can be
found in several places, the first one counts: ``{a}-{b}`` reads ``x-y-z`` as ``x`` and
``y-z``.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

from primacron.channels.names import check_name
from primacron.errors import LimitExceeded, RegistrationError, ValidationFailed
from primacron.natives import as_name

_FIELD: Final = re.compile(r"\{([^{}]*)\}")
#: What a name is compared with: characters, and None for one or more of a field.
_Steps: TypeAlias = tuple[str | None, ...]


class Pattern:
    """
    A pattern, taken apart.

    ``head`` is the literal text before its first field, ``fields`` are their names.

    Raises:
        RegistrationError: if it is malformed, or longer than any name.

    """

    __slots__ = ("_rest", "_steps", "fields", "head", "text")

    def __init__(self, text: str, max_bytes: int) -> None:
        self.text = as_name(text, "pattern")
        try:
            check_name(self.text, max_bytes)
        except (ValidationFailed, LimitExceeded) as error:
            raise _refuse(self.text, str(error)) from None
        parts = _FIELD.split(self.text)
        literals, self.fields = parts[::2], tuple(parts[1::2])
        _check(self.text, literals, self.fields)
        self.head, *after = literals
        self._rest = re.compile(_expression(after))
        steps: list[str | None] = [*self.head]
        for literal in after:
            steps += (None, *literal)
        self._steps: _Steps = tuple(steps)

    def match(self, name: str) -> tuple[str, ...] | None:
        """Return the texts of the fields in a name that begins with ``head``; None if it does not match."""
        found = self._rest.fullmatch(name, len(self.head))
        return None if found is None else found.groups()

    def overlaps(self, other: Pattern) -> bool:
        """Tell whether some name matches both patterns."""
        ours, theirs = self._steps, other._steps
        reached = {(0, 0)}
        ahead = [(0, 0)]
        while ahead:
            one, two = ahead.pop()
            for what, one_on in _moves(ours, one):
                for that, two_on in _moves(theirs, two):
                    if _meet(what, that) and (one_on, two_on) not in reached:
                        reached.add((one_on, two_on))
                        ahead.append((one_on, two_on))
        return (len(ours), len(theirs)) in reached


def _check(text: str, literals: list[str], fields: tuple[str, ...]) -> None:
    if any("{" in literal or "}" in literal for literal in literals):
        raise _refuse(text, "its braces do not match")
    for field in fields:
        if not field.isidentifier():
            raise _refuse(text, f"{{{field}}} is not the name of a parameter")
        if fields.count(field) > 1:
            raise _refuse(text, f"{{{field}}} is in it twice")
    if not all(literals[1:-1]):
        raise _refuse(text, "two fields need something between them")


def _refuse(text: str, why: str) -> RegistrationError:
    return RegistrationError(f"channels {text!r}: {why}")


def _expression(after: list[str]) -> str:
    """
    Return a regular expression of what comes after the head: each field with the literal behind it.

    All groups but the last are atomic. Otherwise a name that almost matches would take time
    exponential in the number of fields.
    """
    if not after:
        return ""
    *inner, last = map(re.escape, after)
    return "".join(f"(?>([^:]+?){literal})" for literal in inner) + f"([^:]+){last}"


def _moves(steps: _Steps, at: int) -> list[tuple[str | None, int]]:
    """Return what may come next, and where that leads; a field that has begun may go on."""
    moves = [(steps[at], at + 1)] if at < len(steps) else []
    if at and steps[at - 1] is None:
        moves.append((None, at))
    return moves


def _meet(one: str | None, two: str | None) -> bool:
    """Tell whether a character fits both."""
    if one is None or two is None:
        return ":" not in (one, two)
    return one == two

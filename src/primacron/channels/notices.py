"""What the members of a channel are told of each other: changes by name, or in large channels their number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Literal, NamedTuple, TypeAlias

from primacron.entries import Name

#: Seconds between counts.
EVERY: Final = 1.0
#: Of the limit: below it members are told by name again.
LOW: Final = 0.9


class Told(NamedTuple):
    """One change of the union; ``info`` is packed, and that of before for one that leaves."""

    what: Literal["join", "leave", "update"]
    name: Name
    info: bytes


@dataclass(frozen=True, slots=True)
class Changes:
    """Tell members what has changed."""

    changes: tuple[Told, ...]


@dataclass(frozen=True, slots=True)
class Members:
    """Tell members who all are there, as they were not told by name before."""

    members: Mapping[Name, bytes]


@dataclass(frozen=True, slots=True)
class Count:
    """Tell members how many are there, as they are too many to be told by name."""

    count: int


#: What to tell members.
Notice: TypeAlias = Changes | Members | Count


class Notices:
    """
    Collects what has changed since members were last told.

    With more than ``limit`` members these are told their number, once a second at most; with less than nine tenths
    of it who they are, and changes by name from then on.
    """

    __slots__ = ("_before", "_counted", "_counted_at", "_limit", "counts", "digest")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        #: What was told of those that have changed since.
        self._before: dict[Name, bytes | None] = {}
        #: Stands for what was told: the same on all nodes for the same members and info; 0 for a number.
        self.digest = 0
        #: Whether members are told their number.
        self.counts = False
        self._counted = -1
        self._counted_at = -EVERY

    def note(self, name: Name, before: bytes | None) -> None:
        """Note that a member changes; ``before`` is its info until now, None if it was not there."""
        self._before.setdefault(name, before)

    def take(self, view: Mapping[Name, bytes], now: float) -> Notice | None:
        """Return what to tell of the members as they are now, None if nothing."""
        before, self._before = self._before, {}
        if self.counts and len(view) < LOW * self._limit:
            self.counts = False
            for name, info in view.items():
                self.digest ^= _digest(name, info)
            return Members(dict(view))
        if not self.counts and len(view) > self._limit:
            self.counts, self._counted = True, -1
        if self.counts:
            self.digest = 0
            return self._count(len(view), now)
        changes = tuple([change for name, info in before.items() if (change := self._compare(name, info, view))])
        return Changes(changes) if changes else None

    def _compare(self, name: Name, before: bytes | None, view: Mapping[Name, bytes]) -> Told | None:
        after = view.get(name)
        if after == before:
            return None
        self.digest ^= _digest(name, before) ^ _digest(name, after)
        if after is None:
            return Told("leave", name, before or b"")
        return Told("join" if before is None else "update", name, after)

    def _count(self, size: int, now: float) -> Count | None:
        if size == self._counted or now < self._counted_at + EVERY:
            return None
        self._counted, self._counted_at = size, now
        return Count(size)

    def due(self, size: int) -> float | None:
        """Return when a number is to be told that could not be told before."""
        return self._counted_at + EVERY if self.counts and size != self._counted else None


def _digest(name: Name, info: bytes | None) -> int:
    """Return a number that stands for a member and its info, 0 for none; those of all are combined by exclusive or."""
    if info is None:
        return 0
    member = "\0".join((*name, "")).encode() + info
    return int.from_bytes(blake2b(member, digest_size=8).digest(), "big")

"""The members of a channel with presence: as applications read them, and as clients are told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import msgspec

from primacron.channels.info import ReadInfo, read_plain
from primacron.dialects.base import Joined
from primacron.entries import Name


class Member(msgspec.Struct, frozen=True, gc=False):
    """
    A session in a channel with presence.

    ``info`` is what the function of the channel's kind has returned for it, or what the
    server let it join with; None without any.
    """

    account: str
    session: str
    info: Any = None


class Members(Sequence[Member]):
    """
    The members of a channel on all servers.

    ``certain`` is False if some may be missing, or have left: a server did not answer in
    time, or this one has just lost its subscription.
    """

    __slots__ = ("_members", "certain")

    def __init__(self, members: Iterable[Member], *, certain: bool) -> None:
        self._members = tuple(members)
        self.certain = certain

    @overload
    def __getitem__(self, index: int) -> Member: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Member]: ...

    def __getitem__(self, index: int | slice) -> Member | Sequence[Member]:
        return self._members[index]

    def __len__(self) -> int:
        return len(self._members)

    def __repr__(self) -> str:
        return f"Members({list(self._members)!r}, certain={self.certain})"


def read_member(name: Name, info: bytes, read: ReadInfo = read_plain) -> Member:
    """Decode the info of a member."""
    return Member(*name, read(info))


def read_members(members: Mapping[Name, bytes], read: ReadInfo = read_plain) -> list[Member]:
    """Decode the info of members."""
    return [read_member(name, info, read) for name, info in members.items()]


@dataclass(frozen=True, slots=True)
class Seen:
    """
    What a session is told of who is there: the members, or None if they are too many to name.

    ``digest`` stands for the members; see :meth:`primacron.channels.presence.Presence.digest`.
    """

    members: Sequence[Member] | None
    count: int
    certain: bool
    digest: int

    def fill(self, joined: Joined) -> None:
        """Add it to what a session is told of its place in the channel."""
        if self.members is None:
            joined.count = self.count
        else:
            joined.members = self.members
        if not self.certain:
            joined.certain = False

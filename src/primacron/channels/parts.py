"""
What nodes tell each other of the members of channels.

Of each channel a node has a *part*: the members whose sessions it has. Every change gives
the part a new version, from a counter that is common to all channels of the node, so that a
part that ended and began again is never taken for the earlier one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final

import msgspec

from primacron.entries import Name
from primacron.ids import AccountId, NodeId, SessionId

#: Stands for no part, and before the first version of a part.
NOTHING: Final = 0
#: Stands for a part of which some changes were missed, so that any version of it is welcome.
OUTDATED: Final = -1
#: Seconds for which a member stays in the union that has left one part and is about to appear in another, and one of
#: which it was not heard how it left.
IN_TRANSIT: Final = 5.0
MISSING: Final = 2.0
#: Bytes of the changes in one message, about.
MAX_DELTA: Final = 100_000


class Present(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A member in a part; ``info`` is packed."""

    account: AccountId
    session: SessionId
    info: bytes

    @property
    def name(self) -> Name:
        """Account and id of the session."""
        return self.account, self.session


class Change(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """
    A member that has come or changed, or without ``info`` has gone.

    ``moved`` if its session goes on elsewhere, so that it is about to appear in another part.
    """

    account: AccountId
    session: SessionId
    info: bytes | None = None
    moved: bool = False

    @property
    def name(self) -> Name:
        """Account and id of the session."""
        return self.account, self.session


class Delta(msgspec.Struct, array_like=True, frozen=True):
    """
    A message on a channel's topic: the changes of a node's part from one version to another.

    The first one of a part has no version ``before``, and all of its members. One without
    changes tells the version again. ``asks`` is the number under which whoever hears it
    answers with a :class:`Reply`, 0 if nobody is asked. Without a ``version`` its node has
    no part, and only asks.
    """

    node: NodeId
    before: int
    version: int
    changes: Sequence[Change]
    asks: int = 0


class Snapshot(msgspec.Struct, array_like=True, frozen=True):
    """A whole part, in the latest version that was told, or newer."""

    version: int
    members: Sequence[Present]


class Reply(msgspec.Struct, array_like=True, frozen=True):
    """The part of a node that was asked on a channel's topic."""

    channel: str
    asks: int
    snapshot: Snapshot


_DELTA_DECODER: Final = msgspec.msgpack.Decoder(Delta)


def pack_delta(delta: Delta) -> bytes:
    """Encode a message for a channel's topic."""
    return msgspec.msgpack.encode(delta)


def unpack_delta(body: bytes | msgspec.Raw) -> Delta:
    """
    Decode a message from a channel's topic.

    Raises:
        msgspec.DecodeError: if it is malformed.

    """
    return _DELTA_DECODER.decode(body)


def split_changes(changes: Sequence[Change]) -> Iterator[Sequence[Change]]:
    """Cut changes into messages of a size that a topic takes; at least one, which may be empty."""
    begin = size = 0
    for index, change in enumerate(changes):
        size += len(change.account) + len(change.session) + len(change.info or b"") + 8
        if size > MAX_DELTA:
            yield changes[begin:index]
            begin, size = index, 0
    yield changes[begin:]


class Missed:
    """Changes of a part that come after some that were missed: each member's last one."""

    __slots__ = ("before", "changes", "version")

    def __init__(self, delta: Delta) -> None:
        self.before = delta.before
        self.version = delta.version
        self.changes: dict[Name, Change] = {change.name: change for change in delta.changes}

    def add(self, delta: Delta) -> Missed:
        """Return these changes with those of a later message; only its own, if again some are missing between them."""
        if delta.version <= self.version:
            return self
        if delta.before != self.version:
            return Missed(delta)
        self.version = delta.version
        self.changes |= {change.name: change for change in delta.changes}
        return self


class Part:
    """The part of one node, as far as it is known: its ``version``, and the packed info of its members."""

    __slots__ = ("members", "missed", "version")

    def __init__(self) -> None:
        self.version = NOTHING
        self.members: dict[Name, bytes] = {}
        #: What cannot be applied before a snapshot has come.
        self.missed: Missed | None = None

    @property
    def known(self) -> int:
        """The version by which its node can tell whether a snapshot is needed."""
        return self.version if self.missed is None else OUTDATED

    def miss(self, delta: Delta) -> None:
        """Keep the changes of a message that does not follow the last one."""
        self.missed = Missed(delta) if self.missed is None else self.missed.add(delta)

    def replace(self, version: int, members: dict[Name, bytes]) -> dict[Name, float]:
        """
        Take a later version, and what was kept if it follows.

        Returns the names that may have changed, each with the seconds for which it may still appear elsewhere.
        """
        before, self.members, self.version = self.members, members, version
        changed = dict.fromkeys((*before, *members), MISSING)
        missed = self.missed
        if missed is not None and missed.before <= version:
            self.missed = None
            if missed.version > version:
                changed |= self.apply(missed.version, missed.changes.values())
        return changed

    def apply(self, version: int, changes: Collection[Change]) -> dict[Name, float]:
        """Take changes that follow; return the names, each with the seconds for which it may still appear elsewhere."""
        self.version = version
        for change in changes:
            if change.info is None:
                self.members.pop(change.name, None)
            else:
                self.members[change.name] = change.info
        return {change.name: IN_TRANSIT if change.moved else 0.0 for change in changes}

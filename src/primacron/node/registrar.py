"""Who gives a session its name: nobody is asked where there is one node, and the registry where there are several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from primacron.cluster.memory import MemorySets
from primacron.dialects.base import Dialect
from primacron.entries import Entry, Name
from primacron.ids import AccountId
from primacron.protocol.handshake import Format
from primacron.sessions.session import Session
from primacron.web import HttpRequest


class Applicant(msgspec.Struct):
    """What a handshake asks for, checked as far as it can be without asking anybody."""

    request: HttpRequest
    account: AccountId
    format: Format
    dialect: Dialect
    #: Whether its session is being claimed: what that replaces is to be known, even if the client goes away.
    is_claiming: bool = False


class Admission(msgspec.Struct):
    """A handshake that was let in; its place in the registry is ``entry``, unless that could not be asked."""

    applicant: Applicant
    account: AccountId
    entry: Entry
    #: What the sets of its session have.
    stored: Mapping[str, Sequence[bytes]] = {}
    is_registered: bool = True

    @property
    def name(self) -> Name:
        """The session by account and id."""
        return self.account, self.entry.id


class Registrar(Protocol):
    """Gives sessions their names, and takes them back."""

    #: Whether it knows by itself, without asking anybody.
    asks_nobody: bool

    async def join(self, started: int) -> None:
        """Begin, at this time in milliseconds."""

    async def admit(self, applicant: Applicant, name: Name) -> Admission:
        """
        Let a session have its name.

        Raises:
            Refused: if somebody else has it, or that cannot be said now.

        """

    def seen_elsewhere(self, name: Name) -> Entry | None:
        """Return where a session went that was here."""

    def opened(self, session: Session, *, is_registered: bool) -> None:
        """Hear of a new session; the registry may not know it yet."""

    def left(self, session: Session) -> None:
        """Hear that a session is here no longer, as it has ended or moved."""

    def release(self, account: AccountId, entry: Entry) -> None:
        """Take back the name of a session that is not here any more."""

    def rest(self) -> None:
        """Hear that somebody went away: nobody may be here any more."""


class Alone:
    """The registrar of a node that is alone: the hub knows all there is."""

    asks_nobody = True

    def __init__(
        self,
        admit_here: Callable[[Applicant, Name], Admission],
        holder: Callable[[Name], Entry | None],
        sets: MemorySets,
    ) -> None:
        self._admit_here = admit_here
        self._holder = holder
        self._sets = sets

    async def join(self, started: int) -> None:
        """See :meth:`Registrar.join`."""

    async def admit(self, applicant: Applicant, name: Name) -> Admission:
        """See :meth:`Registrar.admit`."""
        admission = self._admit_here(applicant, name)
        admission.stored = self._sets.claimed(name)
        return admission

    def seen_elsewhere(self, name: Name) -> Entry | None:
        """See :meth:`Registrar.seen_elsewhere`."""
        return None

    def opened(self, session: Session, *, is_registered: bool) -> None:
        """See :meth:`Registrar.opened`."""

    def left(self, session: Session) -> None:
        """See :meth:`Registrar.left`."""

    def release(self, account: AccountId, entry: Entry) -> None:
        """See :meth:`Registrar.release`; somebody else may have the name by now."""
        name = (account, entry.id)
        if self._holder(name) in (None, entry):
            self._sets.released(name)

    def rest(self) -> None:
        """See :meth:`Registrar.rest`."""

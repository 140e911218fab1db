"""Assignment of session names: by the node itself if it is the only one, by the registry in a cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from primacron.cluster.solo import Solo
from primacron.dialects.base import Dialect
from primacron.entries import Entry, Name
from primacron.ids import AccountId
from primacron.protocol.handshake import Format
from primacron.sessions.session import Session
from primacron.web import HttpRequest


class Applicant(msgspec.Struct):
    """What a handshake requests, after the checks that need neither the application nor the registry."""

    request: HttpRequest
    account: AccountId
    format: Format
    dialect: Dialect
    #: Whether its session is being claimed: the claim must complete, even if the client disconnects.
    is_claiming: bool = False


class Admission(msgspec.Struct):
    """A handshake that was admitted; ``entry`` is in the registry, unless that was unavailable."""

    applicant: Applicant
    account: AccountId
    entry: Entry
    #: The members of the session's sets.
    stored: Mapping[str, Sequence[bytes]] = {}
    is_registered: bool = True

    @property
    def name(self) -> Name:
        """The session's account and id."""
        return self.account, self.entry.id


class Registrar(Protocol):
    """Assigns names to sessions, and releases them."""

    #: Whether it decides locally, without a registry.
    asks_nobody: bool

    async def join(self, started: int) -> None:
        """Start; ``started`` is the time in milliseconds."""

    async def admit(self, applicant: Applicant, name: Name) -> Admission:
        """
        Assign a session its name.

        Raises:
            Refused: if the name is taken, or that cannot be determined now.

        """

    def seen_elsewhere(self, name: Name) -> Entry | None:
        """Return the entry of a session that has moved from this node to another."""

    def register_later(self, session: Session) -> None:
        """Register a new session that the registry could not be told of when it was admitted."""

    def left(self, session: Session) -> None:
        """Handle a session that has ended or moved, and may have been the last."""

    def release(self, account: AccountId, entry: Entry) -> None:
        """Release the name of a session that is no longer on this node."""

    def rest(self) -> None:
        """Handle the departure of a client that was not admitted, and may have been the last."""


class Alone:
    """The registrar of a single node, whose hub has every session."""

    asks_nobody = True

    def __init__(
        self,
        admit_here: Callable[[Applicant, Name], Admission],
        holder: Callable[[Name], Entry | None],
        solo: Solo,
    ) -> None:
        self._admit_here = admit_here
        self._holder = holder
        self._solo = solo

    async def join(self, started: int) -> None:
        """Begin the cluster of one."""
        await self._solo.join()

    async def admit(self, applicant: Applicant, name: Name) -> Admission:
        """Assign a name on this node."""
        admission = self._admit_here(applicant, name)
        admission.stored = self._solo.sets.claimed(name)
        return admission

    def seen_elsewhere(self, name: Name) -> Entry | None:
        """Return None, as there are no other nodes."""
        return None

    def register_later(self, session: Session) -> None:
        """Do nothing, as there is no registry."""

    def left(self, session: Session) -> None:
        """Do nothing, as nothing is kept of a session."""

    def release(self, account: AccountId, entry: Entry) -> None:
        """Let the session's sets expire, unless a later session has the name by now."""
        name = (account, entry.id)
        if name in self._solo.sets and self._holder(name) in (None, entry):
            self._solo.sets.released(name)

    def rest(self) -> None:
        """Do nothing, as nothing is received from other nodes."""

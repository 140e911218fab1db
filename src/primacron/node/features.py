"""Features that hear of the life of sessions. A new one is a class in a file of its own, and a line in ``Node``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from primacron.sessions.feature import FeatureState
from primacron.sessions.session import Session


class Feature:
    """A feature; by itself it does nothing at all of this."""

    #: What it keeps with sessions, if anything.
    state: ClassVar[type[FeatureState] | None] = None

    def opened(self, session: Session, stored: Sequence[bytes]) -> None:
        """Hear of a new session, with what the registry has kept under its name."""

    def arrived(self, session: Session) -> None:
        """Hear of a session that has come from another node, with its state."""

    def left(self, session: Session) -> None:
        """Hear that a session is on another node now."""

    def ended(self, session: Session) -> None:
        """Hear that a session has ended."""

    def restored(self, session: Session) -> None:
        """Hear that the registry had lost a session and has it again."""

    def replaced(self, session: Session) -> None:
        """Hear that a session has ended, since somebody else has claimed its name."""

    def emptied(self) -> None:
        """Hear that the registry may have lost everything."""

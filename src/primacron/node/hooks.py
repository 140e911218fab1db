"""The application's hooks: what it decides for its node, and what it is notified of."""

from __future__ import annotations

from typing import Protocol

from primacron.sessions.session import Receiver, Session
from primacron.web import HttpRequest


class Application(Receiver, Protocol):
    """The hooks that a node calls."""

    @property
    def has_hooks(self) -> bool:
        """Whether ``authorize`` or ``name_session`` call the application's own code."""

    async def authorize(self, request: HttpRequest) -> str | None:
        """Return the account, or None to use the one from the query; raise Refused to reject the request."""

    async def name_session(self, request: HttpRequest) -> str:
        """Return the id for a new session."""

    def leaving(self, session: Session) -> None:
        """Handle the move of a session to another node."""

    def arrived(self, session: Session, messages: list[str | bytes]) -> None:
        """Handle the arrival of a session from another node, with its unhandled messages."""

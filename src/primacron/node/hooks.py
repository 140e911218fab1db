"""What the application decides for its node, and hears of it."""

from __future__ import annotations

from typing import Protocol

from primacron.sessions.session import Receiver, Session
from primacron.web import HttpRequest


class Application(Receiver, Protocol):
    """What the server decides for the node."""

    @property
    def has_hooks(self) -> bool:
        """Whether ``authorize`` or ``name_session`` ask the application's own code."""

    async def authorize(self, request: HttpRequest) -> str | None:
        """Return an account in the place of the query's, or None; raise Refused to turn the request away."""

    async def name_session(self, request: HttpRequest) -> str:
        """Return the id of a new session."""

    def leaving(self, session: Session) -> None:
        """Hear that a session goes on at another node."""

    def arrived(self, session: Session, messages: list[str | bytes]) -> None:
        """Hear of a session that has come from another node, with messages that nobody has handled yet."""

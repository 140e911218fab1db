"""The servers of these tests, and what to ask of an answer."""

from __future__ import annotations

from typing import Any

from primacron import Primacron, Session
from tests.support.http import Response


def echo_server(**options: Any) -> Primacron:
    """Return a raw server that sends every message back, and keeps it in ``session.data``."""
    server = Primacron(None, {"dialect": "raw", "data": list, **options})

    @server.event("message")
    def echo(session: Session, content: str | bytes) -> None:
        session.data.append(content)
        session.emit("message", content)

    return server


def error_of(response: Response) -> tuple[int, int]:
    """Return status and Engine.IO code of a refusal."""
    return response.status, response.json()["code"]


UNKNOWN = (400, 1)

"""What goes wrong between a node and its backend."""

from __future__ import annotations

from collections.abc import Sequence

from primacron.errors import PrimacronError


class BackendUnavailable(PrimacronError):
    """
    The backend did not answer in time, or is not operational.

    Whether it did what it was asked is unknown.
    """

    event = "error::bus"
    http_status = 503

    def __init__(self, why: str) -> None:
        super().__init__(f"the backend is unavailable: {why}")
        self.why = why


class NothingDone(BackendUnavailable):
    """The backend was not asked, or has left out what came too late: what it was asked has certainly not happened."""


class CommandRefused(BackendUnavailable):
    """
    The backend is working but rejected one command: its key is damaged, or a permission is missing.

    This is a failure of that one call, not of the link. ``key`` is the key concerned.
    """

    def __init__(self, command: str, key: str, why: str) -> None:
        PrimacronError.__init__(self, f"the backend refused {command} on {key}: {why}")
        self.command = command
        self.key = key
        self.why = why


class RightsMissing(PrimacronError):
    """The backend denies its user permissions that servers need; ``names`` are the commands."""

    event = "error::bus"

    def __init__(self, names: Sequence[str], why: str) -> None:
        super().__init__(f"the user of Redis lacks rights: {', '.join(names)} ({why})")
        self.names = tuple(names)

"""The counters, all declared in one place, and their values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from primacron.errors import ERROR_EVENTS


@dataclass(frozen=True, slots=True)
class Metric:
    """A counter: its name, and what it counts since the server was created."""

    name: str
    help: str


METRICS: Final = (
    Metric("messages_received", "messages of clients, refused ones included"),
    Metric("sessions_opened", "sessions that began here"),
    Metric("sessions_closed", "sessions that ended here"),
    Metric("sessions_arrived", "sessions that came from other servers"),
    Metric("sessions_left", "sessions that went to other servers"),
    Metric("answers_unknown", "answers of clients to a call that nobody waits for"),
    Metric("joins_unavailable", "joins of channels with history that were refused while Redis did not answer"),
    Metric("messages_volatile_dropped", "volatile messages that a client did not get, as it took no data"),
    Metric(
        "messages_late_dropped",
        "what came for a session on its way to another server when too much waited for it, or too late to be in order",
    ),
    Metric("messages_to_ended_sessions", "what was sent through a `Session` that had ended"),
    Metric("messages_unwritable", "what other servers sent and a client's dialect has no words for"),
    Metric("bus_envelopes_missed", "envelopes of other servers that were lost; each held what one tick had sent"),
    Metric("bus_envelopes_repeated", "envelopes that came twice, or behind a later one"),
    Metric("bus_envelopes_unreadable", "envelopes that are none, or of a newer version"),
    Metric("bus_streams_resumed", "servers heard again after something in their name was ahead of all that they send"),
    Metric("bus_items_unreadable", "items of envelopes that are malformed"),
    Metric("bus_items_unsupported", "items of envelopes that are of a newer kind"),
    Metric("bus_items_failed", "items of envelopes that made something go wrong here"),
    Metric("bus_answers_unknown", "answers of other servers that nobody waits for any more"),
    *(Metric(event, f"errors: {help}") for event, help in ERROR_EVENTS.items()),
)

_RECEIVED: Final = "messages_received"


class Metrics:
    """The values of all counters since the server was created; an unknown name raises KeyError."""

    __slots__ = ("counters", "messages_received")

    def __init__(self) -> None:
        #: All counters by name, except the messages received.
        self.counters: dict[str, int] = {metric.name: 0 for metric in METRICS if metric.name != _RECEIVED}
        # Separate, because every message increments it.
        self.messages_received = 0

    def count(self, name: str, by: int = 1) -> None:
        """Increment a counter."""
        self.counters[name] += by

    def __getitem__(self, name: str) -> int:
        return self.messages_received if name == _RECEIVED else self.counters[name]

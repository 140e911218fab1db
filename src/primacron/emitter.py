"""
The server's events and their listeners.

A listener that raises affects neither the others nor the emitter: its exception goes
to ``failed``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from primacron.natives import as_name

Listener: TypeAlias = Callable[..., Any]


class Once:
    """A listener that is called once."""

    __slots__ = ("_emitter", "_event", "function")

    def __init__(self, emitter: Emitter, event: str, function: Listener) -> None:
        self._emitter = emitter
        self._event = event
        self.function = function

    def __call__(self, *args: Any) -> Any:
        """Call the listener, after removing it."""
        self._emitter.remove(self._event, self)
        return self.function(*args)


class Emitter:
    """Event names, each with its listeners in the order they were added."""

    __slots__ = ("heard",)

    def __init__(self) -> None:
        #: Listeners by event. Tuples, so that listeners may be added or removed during an emit.
        self.heard: dict[str, tuple[Listener, ...]] = {}

    def add(self, event: str, listener: Listener) -> None:
        """Add a listener behind those of the same event."""
        if not callable(_function(listener)):
            raise TypeError(f"listener of {event!r}: expected a function, got {_function(listener)!r}")
        event = as_name(event, "event")
        self.heard[event] = (*self.listeners(event), listener)

    def remove(self, event: str, listener: Listener) -> None:
        """Remove a listener; does nothing if there is none."""
        event = as_name(event, "event")
        left = tuple(each for each in self.listeners(event) if each is not listener and _function(each) != listener)
        if left:
            self.heard[event] = left
        else:
            self.heard.pop(event, None)

    def __iter__(self) -> Iterator[tuple[str, Listener]]:
        """Yield each event with each of its listeners."""
        return ((event, _function(each)) for event, listeners in self.heard.items() for each in listeners)

    def listeners(self, event: str) -> tuple[Listener, ...]:
        """Return the listeners of an event."""
        return self.heard.get(event, ())

    def clear(self) -> None:
        """Remove all listeners."""
        self.heard.clear()


def _function(listener: Listener) -> Listener:
    return listener.function if isinstance(listener, Once) else listener

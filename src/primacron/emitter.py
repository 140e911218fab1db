"""
Events of the server and who listens to them.

A listener that raises does not disturb the others, nor the one who emits: its
exception goes to ``failed``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from primacron.natives import as_name

Listener: TypeAlias = Callable[..., Any]


class Once:
    """A listener that hears its event one time."""

    __slots__ = ("_emitter", "_event", "function")

    def __init__(self, emitter: Emitter, event: str, function: Listener) -> None:
        self._emitter = emitter
        self._event = event
        self.function = function

    def __call__(self, *args: Any) -> Any:
        """Hear the event, and no more of it."""
        self._emitter.remove(self._event, self)
        return self.function(*args)


class Emitter:
    """Names of events, each with its listeners in the order in which they came."""

    __slots__ = ("heard",)

    def __init__(self) -> None:
        #: By event, who hears it. Tuples, so that a listener may come or go while its event is being emitted.
        self.heard: dict[str, tuple[Listener, ...]] = {}

    def add(self, event: str, listener: Listener) -> None:
        """Let the listener hear the event, after those that already do."""
        if not callable(_function(listener)):
            raise TypeError(f"listener of {event!r}: expected a function, got {_function(listener)!r}")
        event = as_name(event, "event")
        self.heard[event] = (*self.listeners(event), listener)

    def remove(self, event: str, listener: Listener) -> None:
        """Let the listener no longer hear the event; nothing happens if it does not."""
        event = as_name(event, "event")
        left = tuple(each for each in self.listeners(event) if each is not listener and _function(each) != listener)
        if left:
            self.heard[event] = left
        else:
            self.heard.pop(event, None)

    def __iter__(self) -> Iterator[tuple[str, Listener]]:
        """Return who hears what."""
        return ((event, _function(each)) for event, listeners in self.heard.items() for each in listeners)

    def listeners(self, event: str) -> tuple[Listener, ...]:
        """Return who hears the event."""
        return self.heard.get(event, ())

    def clear(self) -> None:
        """Forget all listeners."""
        self.heard.clear()


def _function(listener: Listener) -> Listener:
    return listener.function if isinstance(listener, Once) else listener

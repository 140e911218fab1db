"""Checks what applications register, at a point where the developer still sees which line is wrong."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, Final

from primacron.errors import ERROR_EVENTS, RegistrationError
from primacron.natives import as_name
from primacron.spelling import did_you_mean

STREAM: Final = "stream::"

_OF_ERRORS: Final = ("error", "context")
#: The server's own events, and the arguments of their listeners.
EVENTS: Final[dict[str, tuple[str, ...]]] = {
    "listening": (),
    "connection": ("session",),
    "leaving": ("session",),
    "arrived": ("session",),
    "disconnection": ("session", "reason"),
    "channel::join": ("session", "name"),
    "channel::leave": ("session", "name"),
    "close": (),
    "error::*": _OF_ERRORS,
    **dict.fromkeys(ERROR_EVENTS, _OF_ERRORS),
}
#: Decisions left to applications, each a function of these arguments.
HOOKS: Final[dict[str, tuple[str, ...]]] = {
    "authorize": ("request",),
    "authorize_pipe": ("session", "account", "id"),
    "uuid": ("request",),
}
#: Names that only the server itself can emit.
_NEVER_OF_CLIENTS: Final = ("connection", "disconnection")


def demand_name(given: Any, method: str, example: str) -> None:
    """
    Refuse a function where the name belongs.

    Raises:
        RegistrationError: saying what to write.

    """
    if callable(given):
        raise RegistrationError(
            f"server.{method} takes a name first: write @server.{method}({example!r}) above {_name_of(given)}"
        )


def read_own_event(event: Any, method: str) -> str:
    """
    Return the name of a server event that listeners may use.

    Raises:
        RegistrationError: if there is no such event, suggesting the closest.

    """
    demand_name(event, method, "connection")
    name = as_name(event, "event")
    if name in EVENTS or (name.startswith(STREAM) and name != STREAM):
        return name
    hint = did_you_mean(name, EVENTS) or (
        f": @server.event({name!r}) handles what clients send, on({STREAM + name!r}) hears what was accepted"
    )
    raise RegistrationError(f"the server has no event {name!r}{hint}")


def check_stream(event: str, listener: Callable[..., Any], events: Iterable[str]) -> None:
    """
    Refuse a listener for accepted events that no client can send.

    Raises:
        RegistrationError: suggesting the closest name among ``events``.

    """
    name = event.removeprefix(STREAM)
    if name not in events:
        hint = did_you_mean(name, events, wrap=f"'{STREAM}{{}}'") or f"; @server.event({name!r}) would register it"
        raise RegistrationError(f"{_place_of(listener)} listens for {event!r}, but there is no event {name!r}{hint}")


def check_parameters(function: Callable[..., Any], what: str, given: tuple[str, ...]) -> None:
    """
    Refuse a function that cannot be called with the arguments it will get.

    Raises:
        RegistrationError: if it is not callable, or takes more or fewer.

    """
    if not callable(function):
        raise RegistrationError(f"{what}: expected a function, got {function!r}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some callables not written in Python have no signature
        return
    try:
        signature.bind(*given)
    except TypeError:
        named = ", ".join(given)
        raise RegistrationError(
            f"{what}: it is called with ({named}), but {_place_of(function)} takes {_without_types(signature)}"
        ) from None


def check_event_name(name: Any, method: str = "event") -> None:
    """
    Refuse event names that clients cannot use, such as those of the server itself.

    Raises:
        RegistrationError: saying how to listen for those.

    """
    demand_name(name, method, "bid")
    if isinstance(name, str) and (name in _NEVER_OF_CLIENTS or name.startswith(("error::", STREAM))):
        raise RegistrationError(
            f"{name!r} is an event of the server, which no client sends: write @server.on({str(name)!r})"
        )


def check_subclass(cls: type, base: type) -> None:
    """
    Refuse a method that looks like a misspelt hook: it would never be called.

    Raises:
        RegistrationError: naming the hook that it resembles.

    """
    for name, value in vars(cls).items():
        if name.startswith("_") or not callable(value) or hasattr(base, name):
            continue
        hint = did_you_mean(name, HOOKS, closeness=0.85)
        if hint:
            raise RegistrationError(
                f"{cls.__name__}.{name} is no hook of the server{hint} (if it is not meant to be one: _{name})"
            )


def refuse_assignment(name: str) -> None:
    """
    Refuse to assign to a hook's registration method, which would have no effect.

    Raises:
        RegistrationError: saying what to write.

    """
    raise RegistrationError(
        f"server.{name} cannot be assigned: call server.{name}(function), or write @server.{name} above it"
    )


def _name_of(function: Any) -> str:
    return getattr(function, "__name__", None) or repr(function)


def _place_of(function: Any) -> str:
    """Return a function's name and location, as far as known."""
    code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
    place = "" if code is None else f" ({code.co_filename}, line {code.co_firstlineno})"
    return f"{_name_of(function)}{place}"


def _without_types(signature: inspect.Signature) -> str:
    bare = [each.replace(annotation=inspect.Parameter.empty) for each in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))

"""What applications register, looked at while whoever wrote it can still see where."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, Final

from primacron.errors import ERROR_EVENTS, RegistrationError
from primacron.natives import as_name
from primacron.spelling import did_you_mean

STREAM: Final = "stream::"

_OF_ERRORS: Final = ("error", "context")
#: The server's own events, and what their listeners are called with.
EVENTS: Final[dict[str, tuple[str, ...]]] = {
    "listening": (),
    "connection": ("session",),
    "leaving": ("session",),
    "arrived": ("session",),
    "disconnection": ("session", "reason"),
    "close": (),
    "error::*": _OF_ERRORS,
    **dict.fromkeys(ERROR_EVENTS, _OF_ERRORS),
}
#: What applications decide, each by a function that takes these.
HOOKS: Final[dict[str, tuple[str, ...]]] = {
    "authorize": ("request",),
    "authorize_pipe": ("session", "account", "id"),
    "uuid": ("request",),
}
#: Names that only the server itself can mean.
_NEVER_OF_CLIENTS: Final = ("connection", "disconnection")


def demand_name(given: Any, method: str, example: str) -> None:
    """
    Refuse a function in the place of the name.

    Raises:
        RegistrationError: telling what to write.

    """
    if callable(given):
        raise RegistrationError(
            f"server.{method} takes a name first: write @server.{method}({example!r}) above {_name_of(given)}"
        )


def read_own_event(event: Any, method: str) -> str:
    """
    Return the name of an event of the server, as listeners may hear it.

    Raises:
        RegistrationError: if there is no such event, with the nearest.

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
    Refuse to listen for accepted events that no client can send.

    Raises:
        RegistrationError: with the nearest name among ``events``.

    """
    name = event.removeprefix(STREAM)
    if name not in events:
        hint = did_you_mean(name, events, wrap=f"'{STREAM}{{}}'") or f"; @server.event({name!r}) would register it"
        raise RegistrationError(f"{_place_of(listener)} listens for {event!r}, but there is no event {name!r}{hint}")


def check_parameters(function: Callable[..., Any], what: str, given: tuple[str, ...]) -> None:
    """
    Refuse a function that cannot be called with what it will be given.

    Raises:
        RegistrationError: if it is none, or takes more or less.

    """
    if not callable(function):
        raise RegistrationError(f"{what}: expected a function, got {function!r}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some that are not written in Python do not tell
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
    Refuse names of events that clients cannot mean, as those of the server itself.

    Raises:
        RegistrationError: telling how to listen for those.

    """
    demand_name(name, method, "bid")
    if isinstance(name, str) and (name in _NEVER_OF_CLIENTS or name.startswith(("error::", STREAM))):
        raise RegistrationError(
            f"{name!r} is an event of the server, which no client sends: write @server.on({str(name)!r})"
        )


def check_subclass(cls: type, base: type) -> None:
    """
    Refuse a method that looks like a hook which is misspelt: it would never be asked.

    Raises:
        RegistrationError: with the hook that it resembles.

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
    Refuse to replace a hook's own method, which nothing would come of.

    Raises:
        RegistrationError: telling what to write.

    """
    raise RegistrationError(
        f"server.{name} cannot be assigned: call server.{name}(function), or write @server.{name} above it"
    )


def _name_of(function: Any) -> str:
    return getattr(function, "__name__", None) or repr(function)


def _place_of(function: Any) -> str:
    """Return what a function is called and where it stands, as far as it tells."""
    code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
    place = "" if code is None else f" ({code.co_filename}, line {code.co_firstlineno})"
    return f"{_name_of(function)}{place}"


def _without_types(signature: inspect.Signature) -> str:
    bare = [each.replace(annotation=inspect.Parameter.empty) for each in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))

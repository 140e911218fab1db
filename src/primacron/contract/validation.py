"""The contract of a server: event name to validator. No validator, no delivery."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from primacron.contract.arguments import REFUSED, Arguments, Signature, read_arguments, read_signature
from primacron.dialects.base import Form
from primacron.errors import Refused, RegistrationError, UnknownEvent, ValidationFailed
from primacron.natives import as_name, as_native

try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython


class Transformed:
    """Returned by a validator to replace the arguments: ``Transformed((1, 2))``."""

    __slots__ = ("args",)

    def __init__(self, args: tuple[Any, ...] | list[Any]) -> None:
        self.args = tuple(args)


class BrokenCheck(Exception):
    """A validator, or one of the application's types, has a bug: ``cause`` is what it raised."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class EventContract:
    """One event: how its arguments are read and validated, and who handles it."""

    if not cython.compiled:
        __slots__ = (
            "check",
            "check_is_async",
            "handler",
            "handler_is_async",
            "in_thread",
            "is_plain",
            "name",
            "readers",
            "stream",
        )

    def __init__(self, name: str, arguments: Arguments) -> None:
        self.name = name
        self.stream = f"stream::{name}"
        self.readers = arguments.readers
        self.check: Callable[..., Any] | None = None
        self.check_is_async = False
        self.handler: Callable[..., Any] | None = None
        self.handler_is_async = False
        self.in_thread = False
        #: Whether there is nothing to do but call the handler.
        self.is_plain = False

    def read(self, raw: Any, form: Form) -> tuple[Any, ...]:
        """Decode the arguments; see :func:`read_arguments` for the errors."""
        return read_arguments(self.readers[form], raw)


class Contract:
    """All events of a server."""

    if not cython.compiled:
        __slots__ = ("_max_args", "_max_name", "events")

    def __init__(self, *, max_args: int, max_name: int) -> None:
        self._max_args = max_args
        self._max_name = max_name
        self.events: dict[str, EventContract] = {}

    def find(self, name: str) -> EventContract:
        """
        Return the contract of an event.

        Raises:
            UnknownEvent: if there is none.

        """
        try:
            return self.events[name]
        except KeyError:
            shown = name if len(name) <= self._max_name else name[: self._max_name] + "..."
            raise UnknownEvent(shown) from None

    def add_handler(self, name: str, handler: Callable[..., Any], *, in_thread: bool) -> EventContract:
        """
        Register a handler whose annotations are the validator.

        Raises:
            RegistrationError: see :meth:`add_validator`.

        """
        what = f"handler of {_shown(name)}"
        if in_thread and inspect.iscoroutinefunction(handler):
            raise RegistrationError(f"{what}: thread=True takes a plain function, not a coroutine function")
        event = self._add(name, what, read_signature(handler, what, skip=1))
        event.handler = handler
        event.handler_is_async = inspect.iscoroutinefunction(handler)
        event.in_thread = in_thread
        event.is_plain = not in_thread
        return event

    def add_validator(self, name: str, check: Callable[..., Any]) -> EventContract:
        """
        Register a function of the arguments as validator.

        Raises:
            RegistrationError: if the name is taken or unusable, or the function has
                parameters that cannot come from a client.

        """
        what = f"validator of {_shown(name)}"
        event = self._add(name, what, read_signature(check, what, skip=0, default=Any))
        event.check = check
        event.check_is_async = inspect.iscoroutinefunction(check)
        return event

    def _add(self, name: str, what: str, signature: Signature) -> EventContract:
        if not isinstance(name, str) or not 0 < len(name) <= self._max_name:
            raise RegistrationError(f"event name {name!r}: expected a text of 1 to {self._max_name} characters")
        name = as_name(name, "event")
        if name in self.events:
            raise RegistrationError(f"the event {name!r} already has a validator")
        event = self.events[name] = EventContract(name, Arguments(signature, what, max_args=self._max_args))
        return event


def _shown(name: Any) -> str:
    return repr(as_native(name))


def judge_check(outcome: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """
    Return the arguments, as accepted or replaced by a validator's return value.

    Raises:
        ValidationFailed: if it refused them.
        BrokenCheck: if the return value means nothing.

    """
    if outcome is None or outcome is True:
        return args
    if isinstance(outcome, Transformed):
        return outcome.args
    if outcome is False:
        raise ValidationFailed(REFUSED)
    raise BrokenCheck(
        TypeError(f"the validator returned {type(outcome).__name__}, not None, True, False or Transformed")
    )


def read_refusal(error: Exception) -> ValidationFailed | BrokenCheck:
    """
    Classify an exception raised by a validator.

    Exceptions that say what is wrong with the data are meant for the client. Any other
    kind is a bug in the validator, and its text must not leave the server.
    """
    if isinstance(error, ValueError | AssertionError | Refused):
        return ValidationFailed(str(error) or REFUSED)
    return error if isinstance(error, BrokenCheck) else BrokenCheck(error)

"""
Kinds of channels: which names clients may ask to join, and who decides.

A name that is of no kind is a *room*, which only the server lets sessions join.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import inspect as types

from primacron.channels.info import ReadInfo, info_reader, read_plain
from primacron.channels.names import check_name
from primacron.channels.patterns import Pattern
from primacron.config import MOST
from primacron.contract.arguments import Parameter, read_signature
from primacron.contract.models import PYDANTIC, find_marks
from primacron.errors import RegistrationError, ValidationFailed
from primacron.natives import as_native

#: Seconds for which the last value of a channel is kept if nothing else is said: a day.
KEEP_LAST: Final = 86_400
#: The longest time for which messages can be kept, in seconds: a year.
MAX_KEEP: Final = 31_536_000

#: Names whose kind is remembered.
MAX_KNOWN: Final = 10_000

#: What msgspec reads from text that may lack colons.
_READABLE: Final = (
    *(types.AnyType, types.NoneType, types.BoolType, types.IntType, types.FloatType, types.StrType),
    *(types.BytesType, types.ByteArrayType, types.DateType, types.TimeDeltaType),
    *(types.UUIDType, types.DecimalType, types.EnumType, types.LiteralType),
)


class Kind:
    """
    The channels whose names match a pattern.

    ``function`` decides who may join, None lets everyone; ``info`` is the type of what it
    returns, and ``read_info`` decodes it. ``history`` messages are kept for ``keep`` seconds
    after the last, none if both are 0. ``presence`` tells whether the members are told of each
    other.
    """

    __slots__ = ("_fields", "_order", "function", "history", "info", "keep", "pattern", "presence", "read_info")

    def __init__(self, pattern: Pattern, history: int, keep: int, presence: bool) -> None:
        self.pattern = pattern
        self.history = history
        self.keep = keep
        self.presence = presence
        self.function: Callable[..., Any] | None = None
        self.info: Any = None
        self.read_info: ReadInfo = read_plain
        self._fields = tuple(_Field(Parameter(name, str), "") for name in pattern.fields)
        self._order = tuple(range(len(pattern.fields)))

    def attach(self, function: Callable[..., Any]) -> None:
        """
        Let a function decide: its first parameter takes the session, the others the fields, by name.

        Raises:
            RegistrationError: if there is one already, or fields and parameters do not match.

        """
        what = f"channels {self.pattern.text!r}"
        if self.function is not None:
            raise RegistrationError(f"{what}: it already has a function")
        signature = read_signature(function, what, skip=1)
        names = self.pattern.fields
        parameters = {parameter.name: parameter for parameter in signature.positional}
        for name in names:
            if name not in parameters:
                raise RegistrationError(f"{what}: {{{name}}} is not a parameter of the function")
        for name in (*parameters, *((f"*{signature.variadic.name}",) if signature.variadic else ())):
            if name not in names:
                raise RegistrationError(f"{what}: the parameter {name!r} is not a field of the pattern")
        self._fields = tuple(_Field(parameters[name], what) for name in names)
        self._order = tuple(map(names.index, parameters))
        self.info = typing.get_type_hints(function, include_extras=True).get("return", Any)
        self.read_info = info_reader(self.info)
        self.function = function

    def read(self, texts: tuple[str, ...]) -> tuple[Any, ...]:
        """
        Convert the texts of the fields to the arguments of the function.

        Raises:
            ValidationFailed: if one does not convert, or is not how its value is written; ``path`` is its name.

        """
        values = [field.read(text) for field, text in zip(self._fields, texts, strict=True)]
        return tuple([values[index] for index in self._order])


class _Field:
    """Converts the text of a field to the type of its parameter."""

    __slots__ = ("_annotation", "_is_text", "_name")

    def __init__(self, parameter: Parameter, what: str) -> None:
        self._name = parameter.name
        self._annotation = Any if parameter.annotation is object else parameter.annotation
        self._is_text = self._annotation in (str, Any)
        if not self._is_text and not _is_readable(self._annotation):
            raise RegistrationError(
                f"{what}: parameter {parameter.name!r}: the type {parameter.annotation!r} cannot be read from a part of"
                " a name; use str, int, UUID, an enum or another type that msgspec reads from text without colons"
            )

    def read(self, text: str) -> Any:
        """Return the value; a channel has one name, so any other way to write the value is refused."""
        if self._is_text:
            return text
        try:
            value = msgspec.convert(text, self._annotation, strict=False)
        except msgspec.ValidationError as error:
            raise ValidationFailed(str(error), self._name) from None
        if (written := _write(value)) != text:
            raise ValidationFailed(f"Expected {written!r}, got {text!r}", self._name)
        return value


def _write(value: Any) -> str:
    plain = msgspec.to_builtins(value)
    if isinstance(plain, str):
        return plain
    # JSON has no integers of more than 64 bits in msgspec, and no infinities, which are written in many ways.
    return str(plain) if type(plain) is int else msgspec.json.encode(plain).decode()


def _is_readable(annotation: Any) -> bool:
    """Tell whether msgspec reads values of a type from text, and checks all that the annotation says."""
    if PYDANTIC in find_marks(annotation):
        return False
    try:
        found = types.type_info(annotation)
    except (TypeError, NameError):
        return False
    members = found.types if isinstance(found, types.UnionType) else (found,)
    return all(isinstance(member, _READABLE) for member in members)


class Kinds:
    """All kinds of channels of a server."""

    __slots__ = ("_by_head", "_known", "_lengths", "_max_name")

    def __init__(self, *, max_name: int) -> None:
        self._max_name = max_name
        self._by_head: dict[str, list[Kind]] = {}
        #: The lengths of the heads, the longest first.
        self._lengths: list[int] = []
        #: The kinds of names that were asked for.
        self._known: dict[str, Kind | None] = {}

    def add(self, pattern: str, *, history: int = 0, keep: int = 0, presence: bool = False) -> Kind:
        """
        Register a kind of channels that everyone may join; :meth:`attach` lets a function decide.

        Raises:
            RegistrationError: if pattern or numbers are unusable, or another pattern cannot be
                told apart from this one.

        """
        parsed = Pattern(pattern, self._max_name)
        history, keep = _read_history(parsed.text, history, keep)
        if not isinstance(presence, bool):
            raise RegistrationError(f"channels {parsed.text!r}: presence: expected True or False, got {presence!r}")
        kind = Kind(parsed, history, keep, presence)
        for other in self._by_head.get(parsed.head, ()):
            if other.pattern.overlaps(parsed):
                raise RegistrationError(
                    f"channels {parsed.text!r}: cannot be told apart from {other.pattern.text!r}, as both begin with"
                    f" {parsed.head!r} and some names match both"
                )
        self._by_head.setdefault(parsed.head, []).append(kind)
        self._measure()
        return kind

    def attach(self, kind: Kind, function: Callable[..., Any]) -> None:
        """
        Let a function decide who may join; if it cannot, the kind is gone, rather than open to everyone.

        Raises:
            RegistrationError: see :meth:`Kind.attach`.

        """
        try:
            kind.attach(function)
        except RegistrationError:
            if kind.function is None:
                self._remove(kind)
            raise

    def find(self, name: str) -> tuple[Kind, tuple[Any, ...]] | None:
        """
        Return the kind of a name, and the arguments for its function; None if it is the name of a room.

        It is the one with the longest head whose pattern matches.

        Raises:
            ValidationFailed: if the name is unusable, or a field does not convert, or is not how its value is written.
            ChannelNameTooLong: if it is longer than a name may be.

        """
        check_name(name, self._max_name)
        for length in self._lengths:
            for kind in self._by_head.get(name[:length], ()):
                texts = kind.pattern.match(name)
                if texts is not None:
                    return kind, kind.read(texts)
        return None

    def kind_of(self, name: str) -> Kind | None:
        """Return the kind of a name, None for a room; see :meth:`find` for the errors."""
        try:
            return self._known[name]
        except KeyError:
            found = self.find(name)
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        kind = self._known[name] = None if found is None else found[0]
        return kind

    def _remove(self, kind: Kind) -> None:
        kinds = self._by_head.get(kind.pattern.head, [])
        if kind in kinds:
            kinds.remove(kind)
        if not kinds:
            self._by_head.pop(kind.pattern.head, None)
        self._measure()

    def _measure(self) -> None:
        self._known.clear()
        self._lengths = sorted({len(head) for head in self._by_head}, reverse=True)


def _read_history(pattern: str, history: Any, keep: Any) -> tuple[int, int]:
    what = f"channels {pattern!r}"
    history = _read_number(f"{what}: history", history, MOST)
    keep = _read_number(f"{what}: keep", keep, MAX_KEEP)
    if history == 1 and not keep:
        return history, KEEP_LAST
    if history and not keep:
        raise RegistrationError(f"{what}: history={history} needs keep, the seconds for which messages are kept")
    if keep and not history:
        raise RegistrationError(f"{what}: keep={keep} needs history, the number of messages that are kept")
    return history, keep


def _read_number(what: str, value: Any, most: int) -> int:
    value = as_native(value)
    if type(value) is not int or not 0 <= value <= most:
        raise RegistrationError(f"{what}: expected an integer from 0 to {most}, got {value!r}")
    return value

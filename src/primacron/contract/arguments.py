"""
The types of an event's arguments, and the readers built from them.

Types are msgspec's; those that only pydantic understands are left to it, if it is
installed. ``str | bytes`` works in every form, although JSON has only text.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgspec

from primacron.contract.models import MSGSPEC, PYDANTIC, PydanticReader, find_marks, uncheckable
from primacron.dialects.base import Form, split_path
from primacron.errors import (
    InvalidMessage,
    MessageError,
    Refused,
    RegistrationError,
    UndecodableMessage,
    ValidationFailed,
)

Reader: TypeAlias = Callable[[Any], tuple[Any, ...]]

REFUSED: Final = "Failed to validate the data"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One declared argument: its name, its type, and whether clients may omit it."""

    name: str
    annotation: Any
    optional: bool = False


def read_signature(function: Callable[..., Any], what: str, *, skip: int, default: Any = None) -> Signature:
    """
    Return what a handler or validator takes, without its first ``skip`` parameters.

    ``default`` is the type of unannotated parameters; None refuses them.

    Raises:
        RegistrationError: if a parameter cannot come from a client.

    """
    try:
        signature = inspect.signature(function)
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise RegistrationError(_undefined(what, error)) from error
    except Exception as error:  # annotations are application code
        raise RegistrationError(f"{what}: its annotations cannot be read: {error}") from error
    positional: list[Parameter] = []
    variadic: Parameter | None = None
    for parameter in list(signature.parameters.values()):
        if skip and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            skip -= 1
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            raise RegistrationError(f"{what}: **{parameter.name} cannot come from a client")
        if parameter.kind is parameter.KEYWORD_ONLY:
            if parameter.default is parameter.empty:
                raise RegistrationError(f"{what}: keyword-only {parameter.name!r} cannot come from a client")
            continue
        annotation = hints.get(parameter.name, default)
        if annotation is None:
            raise RegistrationError(
                f"{what}: parameter {parameter.name!r} has no type: "
                f"write `{parameter.name}: int` or the like; Any accepts everything"
            )
        found = Parameter(parameter.name, annotation, parameter.default is not parameter.empty)
        if parameter.kind is parameter.VAR_POSITIONAL:
            variadic = found
        else:
            positional.append(found)
    if skip:
        raise RegistrationError(f"{what}: its first parameter must take the session")
    return Signature(tuple(positional), variadic)


def _undefined(what: str, error: NameError) -> str:
    return (
        f"{what}: {error}; the names in annotations are looked up in their module: define or import them there, "
        "at its top level, not inside of a function and not only under `if TYPE_CHECKING`"
    )


@dataclass(frozen=True, slots=True)
class Signature:
    """The declared arguments of an event."""

    positional: tuple[Parameter, ...]
    variadic: Parameter | None

    @property
    def is_fixed(self) -> bool:
        """Whether clients must send exactly the declared number of arguments."""
        return self.variadic is None and not any(parameter.optional for parameter in self.positional)

    def bounds(self, max_args: int) -> tuple[int, int]:
        """Return the minimum and maximum number of arguments."""
        least = sum(1 for parameter in self.positional if not parameter.optional)
        return least, max_args if self.variadic else len(self.positional)


class Arguments:
    """Reads the arguments of one event, in each form that a dialect may deliver them."""

    __slots__ = ("_max_args", "readers", "signature")

    def __init__(self, signature: Signature, what: str, *, max_args: int) -> None:
        if len(signature.positional) > max_args:
            raise RegistrationError(f"{what}: {len(signature.positional)} arguments, max_args is {max_args}")
        self.signature = signature
        self._max_args = max_args
        parameters = (*signature.positional, *((signature.variadic,) if signature.variadic else ()))
        readers = [_ParameterReader(parameter, what) for parameter in parameters]
        self.readers: dict[Form, Reader] = {
            Form.JSON: self._reader(Form.JSON, readers),
            Form.MSGPACK: self._reader(Form.MSGPACK, readers),
            Form.VALUE: self._value_reader(readers),
        }

    def _reader(self, form: Form, readers: list[_ParameterReader]) -> Reader:
        """Return the fastest reader: a single msgspec pass if the arity is fixed and all types are msgspec's."""
        if self.signature.is_fixed and all(reader.native for reader in readers):
            annotation = types.GenericAlias(tuple, tuple(reader.annotation for reader in readers))
            decode: Reader = _decoder(form, annotation).decode
            return decode
        split = _decoder(form, list[msgspec.Raw]).decode
        return lambda raw: self._each(split(raw), form, readers)

    def _value_reader(self, readers: list[_ParameterReader]) -> Reader:
        """Return the fastest reader for decoded values: a lone string, or bytes, need no conversion."""

        def read_each(values: tuple[Any, ...]) -> tuple[Any, ...]:
            return self._each(values, Form.VALUE, readers)

        if not self.signature.is_fixed or len(readers) != 1 or readers[0].changes_values:
            return read_each
        kinds = readers[0].accepts

        def read_one(values: tuple[Any, ...]) -> tuple[Any, ...]:
            return values if len(values) == 1 and isinstance(values[0], kinds) else read_each(values)

        return read_one

    def _each(self, items: Any, form: Form, readers: list[_ParameterReader]) -> tuple[Any, ...]:
        least, most = self.signature.bounds(self._max_args)
        if not least <= len(items) <= most:
            expected = str(most) if least == most else f"{least} to {most}"
            raise ValidationFailed(f"Expected `array` of length {expected}, got {len(items)}")
        fixed = len(self.signature.positional)
        return tuple(readers[min(index, fixed)].read(item, form, index) for index, item in enumerate(items))


def read_arguments(reader: Reader, raw: Any) -> tuple[Any, ...]:
    """
    Decode and check arguments in a single pass.

    Raises:
        InvalidMessage: if they are not an array, or contain text that is not UTF-8.
        UndecodableMessage: if they are nested too deeply.
        ValidationFailed: if the arity or a type is wrong, or one of the application's types refuses its value.

    The application's types may run code (``__post_init__``, pydantic validators). What
    that raises by mistake, rather than to refuse a value, propagates unchanged.

    """
    try:
        return reader(raw)
    except MessageError:
        raise
    except msgspec.ValidationError as error:
        text, path = split_path(error)
        if text.startswith("Expected `array`, got") and not path:
            raise InvalidMessage(f"args: {error}") from None
        raise _failed(error) from None
    except UnicodeDecodeError as error:
        raise InvalidMessage(f"args: a text that is not UTF-8: {error}") from None
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise UndecodableMessage(f"args: {error}") from None
    except (ValueError, AssertionError, Refused) as error:  # raised by application code, see below
        raise ValidationFailed(str(error) or REFUSED) from error


def _failed(error: msgspec.ValidationError, prefix: str = "$") -> Exception:
    if isinstance(error.__cause__, TypeError):
        return error.__cause__  # msgspec takes a TypeError for a refusal, like a ValueError, but it is more often a bug
    text, path = split_path(error)
    if not path:
        return ValidationFailed(text, prefix if prefix != "$" else "")
    return ValidationFailed(text or REFUSED, prefix + path.removeprefix("$"))


def _decoder(form: Form, annotation: Any) -> Any:
    module = msgspec.json if form is Form.JSON else msgspec.msgpack
    return module.Decoder(annotation)


class _ParameterReader:
    """Reads one argument."""

    __slots__ = ("_constrained", "_decoders", "_pydantic", "accepts", "annotation", "native")

    def __init__(self, parameter: Parameter, what: str) -> None:
        what = f"{what}: parameter {parameter.name!r}"
        self.annotation = Any if parameter.annotation is object else parameter.annotation
        self.accepts = _accepted_values(self.annotation)
        self._constrained = _constrained_values(self.annotation, self.accepts)
        self._pydantic: PydanticReader | None = None
        self._decoders: dict[Form, Any] = {}
        # msgspec does not support a union of these two, as JSON has only one of them.
        is_text_or_bytes = self.accepts == (str, bytes)
        marks = find_marks(self.annotation)
        self.native = not is_text_or_bytes and PYDANTIC not in marks and _is_native(self.annotation, what)
        if self.native:
            self._decoders = {form: _decoder(form, self.annotation) for form in (Form.JSON, Form.MSGPACK)}
        elif is_text_or_bytes and PYDANTIC not in marks:
            if not all(_is_native(each, what) for each in self._constrained.values()):
                raise RegistrationError(uncheckable(what, self.annotation))
        elif MSGSPEC in marks:
            raise RegistrationError(uncheckable(what, self.annotation, ", as it mixes msgspec's Meta with other types"))
        else:
            self._pydantic = PydanticReader(self.annotation, what)

    @property
    def changes_values(self) -> bool:
        """Whether a value of the right kind may be converted rather than taken as it is."""
        return self._pydantic is not None or bool(self._constrained)

    def read(self, item: Any, form: Form, index: int) -> Any:
        """Return the value; raise ValidationFailed if it does not fit."""
        if form is Form.VALUE:
            return self._value(item, index)
        if self.native:
            try:
                return self._decoders[form].decode(item)
            except msgspec.ValidationError as error:
                raise _failed(error, f"$[{index}]") from None
        if self._pydantic is None:
            return self._value(_decoder(form, Any).decode(item), index)
        if form is Form.JSON:
            return self._pydantic.read_json(bytes(item), f"$[{index}]")
        return self._pydantic.read_value(_decoder(form, Any).decode(item), f"$[{index}]")

    def _value(self, value: Any, index: int) -> Any:
        if not isinstance(value, self.accepts):
            raise ValidationFailed(f"Expected {_names(self.accepts)}, got `{type(value).__name__}`", f"$[{index}]")
        if self._pydantic is not None:
            return self._pydantic.read_value(value, f"$[{index}]")
        if self._constrained:
            try:
                return msgspec.convert(value, self._constrained[type(value)])
            except msgspec.ValidationError as error:
                raise _failed(error, f"$[{index}]") from None
        return value


def _names(kinds: tuple[type, ...]) -> str:
    return " or ".join(f"`{kind.__name__}`" for kind in kinds) or "a type that the raw dialect does not have"


def _accepted_values(annotation: Any) -> tuple[type, ...]:
    """Return the types whose values need no conversion once decoded."""
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    if annotation is Any or annotation is object:
        return (object,)
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    members = typing.get_args(annotation) if is_union else (annotation,)
    is_plain = all(member in (str, bytes) for member in members)
    return tuple(kind for kind in (str, bytes) if kind in members) if is_plain else ()


def _constrained_values(annotation: Any, accepted: tuple[type, ...]) -> dict[type, Any]:
    """Return, for each kind of value, its type with the annotation's constraints."""
    constraints = getattr(annotation, "__metadata__", ())
    return {kind: typing.Annotated[(kind, *constraints)] for kind in accepted if constraints and kind is not object}


def _is_native(annotation: Any, what: str) -> bool:
    try:
        msgspec.json.schema_components((annotation,))
    except TypeError:
        return False
    except NameError as error:
        raise RegistrationError(_undefined(what, error)) from error
    return True

"""Readers of arguments, made of types alone, and what they make of a client's data."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec
import pytest

from primacron.contract.arguments import Arguments, Parameter, Signature, read_arguments
from primacron.dialects.base import Form
from primacron.errors import RegistrationError, ValidationFailed

WHAT: Final = "handler of 'bid'"
DECODED: Final = (Form.JSON, Form.MSGPACK)


def taking(*annotations: Any, optional: int = 0, rest: Any = None, max_args: int = 32) -> Arguments:
    """Return the readers of an event that takes these types; the last ``optional`` ones may be left out."""
    first = len(annotations) - optional
    positional = tuple(
        Parameter(f"p{number}", annotation, number >= first) for number, annotation in enumerate(annotations)
    )
    return Arguments(Signature(positional, Parameter("rest", rest) if rest else None), WHAT, max_args=max_args)


def pack(value: object, form: Form) -> Any:
    """Return arguments as a client sends them."""
    if form is Form.JSON:
        return msgspec.Raw(json.dumps(value).encode())
    return msgspec.Raw(msgspec.msgpack.encode(value)) if form is Form.MSGPACK else value


def read(arguments: Arguments, value: object, form: Form = Form.JSON) -> tuple[Any, ...]:
    """Return the arguments that a handler would get of an array of values."""
    return read_arguments(arguments.readers[form], pack(value, form))


def read_text(arguments: Arguments, text: str | bytes) -> tuple[Any, ...]:
    """Return the arguments that a handler would get of JSON text."""
    return read_arguments(
        arguments.readers[Form.JSON],
        msgspec.Raw(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text),
    )


def failure(arguments: Arguments, value: object, form: Form = Form.JSON) -> tuple[str, str]:
    """Return with which words, and at which path, arguments fail."""
    with pytest.raises(ValidationFailed) as caught:
        read(arguments, value, form)
    assert type(caught.value) is ValidationFailed
    return str(caught.value), caught.value.path


def registration_error(*annotations: Any) -> str:
    """Return with which words types are refused at registration."""
    with pytest.raises(RegistrationError) as caught:
        taking(*annotations)
    return str(caught.value)

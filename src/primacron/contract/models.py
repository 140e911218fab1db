"""
What only pydantic can check: its models, dataclasses and constraints.

msgspec takes a pydantic dataclass for a plain one and ignores constraints other than
its own, as pydantic ignores those of msgspec. So a type that contains anything of
pydantic's is left to pydantic, and one that would need both is refused.
"""

from __future__ import annotations

import typing
from typing import Any, Final

from primacron.errors import RegistrationError, ValidationFailed

PYDANTIC: Final = "pydantic"
MSGSPEC: Final = "msgspec"

# Module of a constraint class -> the library that enforces it.
_CHECKERS: Final = {"pydantic": PYDANTIC, "pydantic_core": PYDANTIC, "annotated_types": PYDANTIC, "msgspec": MSGSPEC}
_MARKS: Final = ("__pydantic_validator__", "__pydantic_config__", "__get_pydantic_core_schema__")


def find_marks(annotation: Any) -> frozenset[str]:
    """Return the libraries a type needs at any depth: msgspec for its constraints, pydantic for anything of its own."""
    found: set[str] = set()
    _collect(annotation, found, set())
    return frozenset(found)


def _collect(annotation: Any, found: set[str], seen: set[int]) -> None:
    if id(annotation) in seen:
        return
    seen.add(id(annotation))
    for constraint in getattr(annotation, "__metadata__", ()):
        checker = _CHECKERS.get(type(constraint).__module__.partition(".")[0])
        if checker is not None:
            found.add(checker)
    if any(hasattr(annotation, mark) for mark in _MARKS):
        found.add(PYDANTIC)
        return
    for part in (*typing.get_args(annotation), *_fields(annotation)):
        _collect(part, found, seen)
    for inner in ("__origin__", "__supertype__", "__value__"):  # generics, NewType, `type X = ...`
        if hasattr(annotation, inner):
            _collect(getattr(annotation, inner), found, seen)


def _fields(annotation: Any) -> list[Any]:
    """Return the types of a class's fields; none if they cannot be resolved, since then nothing can check the class."""
    if not isinstance(annotation, type):
        return []
    try:
        return list(typing.get_type_hints(annotation, include_extras=True).values())
    except Exception:  # annotations are application code
        return []


class PydanticReader:
    """
    Reads values of one type with pydantic.

    Raises:
        RegistrationError: if pydantic is not installed, or cannot check the type.

    """

    __slots__ = ("_adapter",)

    def __init__(self, annotation: Any, what: str) -> None:
        try:
            import pydantic  # noqa: PLC0415 (optional; only needed where msgspec does not suffice)

            self._adapter = pydantic.TypeAdapter(annotation)
        except Exception as error:  # pydantic raises many kinds, and the type may run application code
            raise RegistrationError(uncheckable(what, annotation)) from error
        if not getattr(self._adapter, "pydantic_complete", True):
            raise RegistrationError(uncheckable(what, annotation, ", as it names types that are not defined"))

    def read_json(self, text: bytes, path: str) -> Any:
        """Return the value of JSON text; raise ValidationFailed if it does not fit."""
        try:
            return self._adapter.validate_json(text)
        except ValueError as error:
            raise _failed(error, path) from None

    def read_value(self, value: Any, path: str) -> Any:
        """Return the value of plain data; raise ValidationFailed if it does not fit."""
        try:
            return self._adapter.validate_python(value)
        except ValueError as error:
            raise _failed(error, path) from None


def uncheckable(what: str, annotation: Any, reason: str = "") -> str:
    """Return the message for a type that cannot be checked."""
    return (
        f"{what}: the type {annotation!r} cannot be checked{reason}; "
        "use a msgspec type, a dataclass or (with pydantic installed) a pydantic model"
    )


def _failed(error: ValueError, path: str) -> ValidationFailed:
    """Convert the first problem of pydantic's ValidationError, a ValueError."""
    problem = error.errors(include_url=False)[0]  # type: ignore[attr-defined]
    path += "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"])
    return ValidationFailed(problem["msg"], path)

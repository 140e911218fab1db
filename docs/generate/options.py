"""The page of all options."""

from __future__ import annotations

import dataclasses
from typing import Any

from docs.generate.markdown import code, table
from primacron.config import ALIASES, FIELDS

_INTRO = """# Options

Given as keywords, `Primacron(namespace="shop")`, or as a mapping, `Primacron(None, options)`. Durations are seconds
(fractions allowed), sizes are bytes. A name that is not here, or a value that the option does not take, raises
`OptionError` at construction, which names the option and what it takes.

"""


def page() -> str:
    """Return the page."""
    rows = [_row(field) for field in FIELDS.values()]
    aliases = ", ".join(f"`{alias}` is `{name}`" for alias, name in ALIASES.items())
    return f"{_INTRO}{table(('option', 'default', 'takes', 'meaning'), rows)}\nOther names: {aliases}.\n"


def _row(field: dataclasses.Field[Any]) -> tuple[str, str, str, str]:
    return code(field.name), code(_shown(field.default)), field.metadata["kind"].takes, field.metadata["meaning"]


def _shown(value: Any) -> str:
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return f"({', '.join(map(_shown, value))})"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return f"{value:_}" if isinstance(value, int) and not isinstance(value, bool) else repr(value)

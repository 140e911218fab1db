"""Small Markdown helpers."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterable, Sequence

# Only a class's name is shown, not its module.
_ROLE = re.compile(r":\w+:`~?(?:[a-z_]+\.(?=[\w.]*[A-Z]))*([^`]+)`")
_RAISED = re.compile(r"^(\w+): (.*)", re.DOTALL)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) for row in rows]
    return "".join(f"| {line} |\n" for line in lines)


def code(text: object) -> str:
    """Format as code."""
    return f"`{text}`"


def prose(docstring: str | None) -> str:
    """Convert a docstring to Markdown; its ``Raises`` section becomes a list."""
    parts = inspect.cleandoc(docstring or "").split("\n\n")
    return "\n\n".join(_raises(part) if part.startswith("Raises:\n") else _inline(part) for part in parts) + "\n"


def summary(docstring: str | None) -> str:
    """Return the summary of a docstring: everything before the first blank line."""
    return _inline(inspect.cleandoc(docstring or "").split("\n\n")[0])


def _inline(text: str) -> str:
    text = _ROLE.sub(r"``\1``", text)
    return " ".join(text.replace("``", "`").split())


def _raises(section: str) -> str:
    lines = textwrap.dedent(section.removeprefix("Raises:\n"))
    found = [_RAISED.match(item) for item in re.split(r"\n(?! )", lines)]
    return "Raises:\n\n" + "\n".join(f"- `{item[1]}` {_inline(item[2])}" for item in found if item)

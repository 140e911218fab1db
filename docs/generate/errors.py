"""The errors page: the events that applications receive, and the classes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Final

import primacron
from docs.generate.markdown import code, summary, table
from primacron.errors import ERROR_EVENTS, PrimacronError, ProtocolError, Refused

_EVENTS = """# Errors

## Events

Each is heard with `server.on(event)` and called with `(error, context)`; `server.on("error::*")` hears all.

"""

_CLASSES = """
## Classes

All derive from `PrimacronError`. Those in bold come from `primacron` itself, the others from `primacron.errors`.
*HTTP* is the status of an answer, *Engine.IO* the code in the JSON body of a refused request of the stream; each is
empty where the error does not show in that way.

"""

#: The modules to search; subclasses elsewhere are internal.
_MODULES: Final = ("primacron.errors", "primacron.cluster.errors", "primacron.cluster.link")


def page() -> str:
    """Return the page."""
    events = table(("event", "when", "raised as"), map(_event_row, ERROR_EVENTS.items()))
    classes = table(("class", "kind of", "event", "HTTP", "Engine.IO", "meaning"), map(_row, tree()))
    return _EVENTS + events + _CLASSES + classes


def tree(base: type[PrimacronError] = PrimacronError) -> Iterator[type[PrimacronError]]:
    """Return all classes of the tree, parents first."""
    yield base
    for derived in base.__subclasses__():
        if derived.__module__ in _MODULES:
            yield from tree(derived)


def _event_row(event: tuple[str, str]) -> tuple[str, str, str]:
    name, when = event
    return code(name), when, ", ".join(code(each.__name__) for each in tree() if each.event == name) or "any exception"


def _row(error: type[PrimacronError]) -> tuple[str, ...]:
    name = code(error.__name__)
    status, engine_code = _shows_as(error)
    return (
        f"**{name}**" if error.__name__ in primacron.__all__ else name,
        ", ".join(code(base.__name__) for base in error.__bases__),
        code(error.event) if error.event else "",
        status,
        engine_code,
        summary(error.__doc__),
    )


def _shows_as(error: type[PrimacronError]) -> tuple[str, str]:
    """Return the HTTP status and Engine.IO code of a response; empty if the error is never one."""
    if error is Refused:
        return "as given", str(error().engine_code)
    if issubclass(error, Refused):  # these choose the status when instantiated
        count = len(inspect.signature(error).parameters)
        made = error(*["x"] * count)  # type: ignore[arg-type]
        return str(made.http_status), str(made.engine_code)
    if issubclass(error, ProtocolError) or error.http_status != PrimacronError.http_status:
        return str(error.http_status), str(error.engine_code)
    return "", ""

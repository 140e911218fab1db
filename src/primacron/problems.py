"""A failure: what it was about, and the line in the log that describes it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from primacron.cluster.link import LinkBack, LinkLost
from primacron.errors import ERROR_EVENTS, AccountRefused, OriginRefused, PrimacronError, UnknownEvent
from primacron.logs import LOGGER, Log, one_line, text_of, write
from primacron.origins import read_listed_origin
from primacron.sessions.session import Session
from primacron.spelling import did_you_mean
from primacron.web import HttpRequest

#: The event for what the application's own code raises.
FAILED: Final = "error::handler"


@dataclass(frozen=True, slots=True)
class Context:
    """
    What an error was about; fields that do not apply are None.

    ``message`` is the raw text (or bytes) that the client sent, ``key`` and
    ``value`` what the registry was asked to store.
    """

    key: Any = None
    value: Any = None
    message: str | bytes | None = None
    event: str | None = None
    session: Session | None = None
    request: HttpRequest | None = None


def event_of(error: Exception) -> str:
    """Return the event that reports an error: that of its library class, whatever the application derives from it."""
    named = (vars(each).get("event") for each in type(error).__mro__ if issubclass(each, PrimacronError))
    return next((event for event in named if event in ERROR_EVENTS), FAILED)


def log_problem(log: Log, error: Exception, context: Context, events: Iterable[str]) -> None:
    """
    Log an error that has no listener; ``events`` are those that the server knows.

    Changes of the link's state are all logged, as the last one tells the current state.
    Everything else is limited to a line a minute, per client event or per place where
    application code raised.
    """
    if isinstance(error, LinkLost | LinkBack):
        write(LOGGER, logging.WARNING, describe(error, context))
        return
    kind = event_of(error)
    log.tell(
        kind,
        _about(error, context),
        lambda: describe(error, context, _advice(error, context, events)),
        level=logging.ERROR if kind == FAILED else logging.WARNING,
        error=error if has_traceback(error) else None,
    )


def describe(error: Exception, context: Context, advice: str = "") -> str:
    """Return the log line of an error: its event, its text, and where it happened."""
    text = text_of(error) if isinstance(error, PrimacronError) else f"{type(error).__name__}: {text_of(error)}"
    where = [f"{context.session!r}"] if context.session else []
    where += [f"event {context.event!r}"] if context.event else []
    where += (
        [f"{context.request.method} {context.request.path!r} from {context.request.peer}"] if context.request else []
    )
    about = f" ({', '.join(where)})" if where else ""
    return f"{event_of(error)}: {one_line(text + advice)}{one_line(about)}"


def has_traceback(error: Exception) -> bool:
    """Tell whether the traceback of an error adds to its text: not if it only shows our own code."""
    if isinstance(error, PrimacronError) and type(error).event == FAILED:
        return error.__cause__ is not None
    return event_of(error) == FAILED


def _about(error: Exception, context: Context) -> str:
    """Return what tells errors of one event apart."""
    about = f"{type(error).__name__} {context.event or ''}"
    if not has_traceback(error):
        return about
    innermost = error.__traceback__
    while innermost is not None and innermost.tb_next is not None:
        innermost = innermost.tb_next
    return about if innermost is None else f"{about} {innermost.tb_frame.f_code.co_filename}:{innermost.tb_lineno}"


def _advice(error: Exception, context: Context, events: Iterable[str]) -> str:
    """Return a hint for the application's developer that is not meant for clients."""
    if isinstance(error, UnknownEvent):
        return did_you_mean(error.name, events) or f"; @server.event({error.name!r}) registers one"
    if isinstance(error, AccountRefused):
        return "; clients connect with ?account=NAME"
    if isinstance(error, OriginRefused) and context.request is not None:
        return _lets_in(context.request.headers.get("origin"))
    return ""


def _lets_in(origin: str | None) -> str:
    if origin == "null":
        return "; a page that was opened as a file has no origin: serve it by HTTP"
    try:
        listed = read_listed_origin(origin or "")
    except ValueError:
        return ""
    return f"; Primacron(origins=[{listed!r}]) lets it in"

"""The API page: everything that ``import primacron`` provides, from the docstrings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import primacron
from docs.generate.markdown import code, prose
from primacron import testing
from primacron.features.channels import ChannelTarget
from primacron.routing.targets import (
    AccountTarget,
    CallResult,
    Everyone,
    ManyTarget,
    SessionInfo,
    SessionTarget,
    Target,
)
from primacron.sessions.session import Session

_INTRO = """# Reference of the API

What `from primacron import ...` gives. Errors have [a page of their own](errors.md), and so have
[the options](options.md).

"""
_OTHERS = """
## The rest

`create_server(redis, options)` and `primacron(redis, options)` are `Primacron(redis, options)`. `primacron.compiled`
tells whether what a message passes is compiled; `primacron.__version__` is the version.
"""
_TESTING: Final = """
## For tests

What `from primacron.testing import ...` gives: [for tests of your application](../how-to/test.md). The suite that a
backend of your own has to pass is in `primacron.testing.contract`.

"""


_STARS: Final[Mapping[object, str]] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


@dataclass(frozen=True)
class Part:
    """One class, and which of its members are public."""

    kind: type
    members: Sequence[str] = ()
    called: str = ""
    #: Whether applications instantiate it themselves.
    is_made: bool = True


PARTS: Final = (
    Part(
        primacron.Primacron,
        (
            *("event", "validate", "on", "once", "off", "log_errors", "authorize", "uuid", "channels", "get"),
            *("session", "account", "channel", "everyone", "find", "forward", "broadcast", "socket"),
            *("authorize_pipe", "pipe", "unpipe"),
            *("listen", "run", "address", "uri", "network", "asgi", "lifespan", "destroy", "from_thread"),
        ),
    ),
    Part(
        Session,
        (
            *("emit", "call", "disconnect", "join", "leave", "channels"),
            *("task", "data", "query", "claimed_account", "connected"),
        ),
        is_made=False,
    ),
    Part(
        Target,
        ("emit", "disconnect", "join", "leave", "sessions"),
        "`server.session(...)`, `server.account(...)`, `server.channel(...)`, `server.everyone`",
    ),
    Part(SessionTarget, ("call",), "`server.session(account, id)`"),
    Part(ManyTarget, ("call", "count"), "each target but `server.session(...)`"),
    Part(AccountTarget, (), "`server.account(id)`"),
    Part(ChannelTarget, ("emit", "history", "clear"), "`server.channel(name, ...)`"),
    Part(Everyone, (), "`server.everyone`"),
    Part(SessionInfo),
    Part(CallResult, is_made=False),
    Part(primacron.Delivery, is_made=False),
    Part(primacron.Receipt, ("ok",)),
    Part(primacron.Reach),
    Part(primacron.Position),
    Part(primacron.HistoryPage, is_made=False),
    Part(primacron.Members, is_made=False),
    Part(primacron.Member, is_made=False),
    Part(primacron.ChannelMessage, is_made=False),
    Part(primacron.Transformed),
    Part(primacron.Context),
    Part(primacron.HttpRequest, ("query", "cookies", "bearer")),
    Part(primacron.HttpResponse),
)
TESTING: Final = (
    Part(
        testing.Client,
        (*("connect", "emit", "call", "receive", "answer", "refuse", "is_quiet", "closed", "close"),),
        is_made=False,
    ),
    Part(testing.Received),
    Part(testing.ClientRefused, is_made=False),
    Part(testing.Cluster, ("meet",)),
    Part(testing.Proxy, ("drop", "mend", "connections", "lost", "latency")),
    Part(testing.ProxiedConnection, ("drop", "sent"), is_made=False),
)


def page() -> str:
    """Return the page."""
    return _INTRO + "\n".join(map(_part, PARTS)) + _OTHERS + _TESTING + "\n".join(map(_part, TESTING))


def _part(part: Part) -> str:
    name = part.kind.__name__
    text = f"## {name}\n\n"
    if part.called:
        text += f"What you get as {part.called}.\n\n"
    elif part.is_made:
        text += f"```text\n{name}{_signature(part.kind)}\n```\n\n"
    text += prose(part.kind.__doc__)
    return text + "".join(_member(part.kind, each) for each in part.members)


def _member(kind: type, name: str) -> str:
    head = f"\n### {kind.__name__}.{name}\n\n"
    member = inspect.getattr_static(kind, name)
    member = getattr(member, "__func__", member)  # unwraps a class method
    if callable(member):
        prefix = "async " if inspect.iscoroutinefunction(member) else ""
        return f"{head}```text\n{prefix}{name}{_signature(member)}\n```\n\n{prose(member.__doc__)}"
    function = getattr(member, "fget", None) or getattr(member, "func", None)
    kind_of = f": {code(_shown(function.__annotations__['return']))}"
    return f"{head}Attribute{kind_of}. {prose(member.__doc__)}"


def _signature(function: Callable[..., Any]) -> str:
    """Return parameters and result; formatted here because Python's own format differs between versions."""
    found = inspect.signature(function)
    parts: list[str] = []
    has_keywords = False
    for parameter in found.parameters.values():
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not has_keywords:
            has_keywords = True
            parts.append("*")
        parts.append(_parameter(parameter))
        has_keywords = has_keywords or parameter.kind is parameter.VAR_POSITIONAL
    result = "" if isinstance(function, type) else f" -> {_shown(found.return_annotation)}"
    line = f"({', '.join(parts)}){result}"
    if len(line) <= 100:
        return line
    return "(\n" + "".join(f"    {part},\n" for part in parts) + f"){result}"


def _parameter(parameter: inspect.Parameter) -> str:
    text = f"{_STARS.get(parameter.kind, '')}{parameter.name}"
    if parameter.annotation is not parameter.empty:
        text += f": {_shown(parameter.annotation)}"
    if parameter.default is not parameter.empty:
        text += f" = {parameter.default!r}"
    return text


def _shown(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))

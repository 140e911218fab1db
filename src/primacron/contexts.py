"""
A separate context for each piece of application code.

Handlers, listeners, hooks, validators and pages set context variables and the
precision of ``decimal``, and none may see what another has set. Each runs in a copy
of the context in which the server was started or, under an outer ASGI application,
of the one in which the request or websocket arrived.
"""

from __future__ import annotations

import decimal
import inspect
from collections.abc import Awaitable, Callable, Generator
from contextvars import Context, ContextVar, copy_context
from typing import Any, Final, TypeVar

from primacron.exits import ORDINARY, raise_contained

T = TypeVar("T")


def _find_decimal() -> ContextVar[decimal.Context]:
    """Return the variable in which ``decimal`` keeps its context."""
    decimal.getcontext()
    return next(each for each, value in copy_context().items() if isinstance(value, decimal.Context))


#: The one variable whose value the standard library mutates in place: ``getcontext().prec = 5``.
DECIMAL: Final = Context().run(_find_decimal)


def own_context(base: Context) -> Context:
    """Return a copy of a context for one piece of application code."""
    own = base.copy()
    if DECIMAL in own:
        own.run(_renew_decimal)
    return own


def own_current_context() -> Context:
    """Return a copy of the current context for one piece of application code."""
    return own_context(copy_context())


def _renew_decimal() -> None:
    decimal.setcontext(decimal.getcontext().copy())


def call_in(own: Context, function: Callable[..., T], *args: Any) -> T:
    """Call an application function in a context; raising what would end the program is an error like any other."""
    try:
        return own.run(function, *args)
    except ORDINARY:
        raise
    except BaseException as error:
        raise_contained(error)


async def call_apart(base: Context, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in a copy of a context, and await what it returns if necessary."""
    own = own_context(base)
    outcome = call_in(own, function, *args)
    return await Apart(outcome, own) if inspect.isawaitable(outcome) else outcome


class Apart:
    """Awaits something within the current task, but in a context other than the task's."""

    __slots__ = ("_awaitable", "_context")

    def __init__(self, awaitable: Awaitable[Any], context: Context) -> None:
        self._awaitable = awaitable
        self._context = context

    def __await__(self) -> Generator[Any, Any, Any]:
        run = self._context.run
        steps = run(self._awaitable.__await__)
        step: Callable[..., Any] = next
        args: tuple[Any, ...] = (steps,)
        try:
            while True:
                waits_for = run(step, *args)
                try:
                    yield waits_for
                except GeneratorExit:
                    run(steps.close)
                    raise
                except BaseException as error:
                    step, args = steps.throw, (error,)
                else:
                    step, args = next, (steps,)
        except StopIteration as stop:
            return stop.value
        except ORDINARY:
            raise
        except BaseException as error:
            raise_contained(error)

"""
Eager execution: a coroutine that finishes without suspending costs no task.

Most handlers never suspend. Their first step runs synchronously, inside the callback
that read the message, in a context of their own and with a spare task entered as the
current one, so that ``asyncio.timeout``, task groups and context variables work. A
coroutine that suspends continues as that task.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import _enter_task, _leave_task
from collections.abc import Coroutine, Generator
from contextvars import Context, copy_context
from typing import Any, Final

from primacron.contexts import call_in
from primacron.exits import ORDINARY, Contained, contain, raise_contained

try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython

#: Whether asyncio has eager tasks of its own, as it does since Python 3.12.
HAS_EAGER_TASKS: Final = sys.version_info >= (3, 12)

# The current task of each event loop.
_RUNNING: dict[asyncio.AbstractEventLoop, asyncio.Task[Any]] = (
    {} if HAS_EAGER_TASKS else asyncio.tasks._current_tasks  # type: ignore[attr-defined]  # noqa: SLF001
)
_NOTHING: Final = object()

if not cython.compiled:

    def take_step(eager: Eager, coroutine: Coroutine[Any, Any, Any], context: Context | None) -> bool:
        """
        Run a coroutine until it suspends or ends; tell whether it has ended.

        ``context`` must not have been entered; None stands for the current one. Sets
        ``eager.value`` to what the coroutine awaits or has returned.
        """
        try:
            eager.value = coroutine.send(None) if context is None else context.run(coroutine.send, None)
        except StopIteration as stop:
            eager.value = stop.value
            return True
        return False


class _Relay(Coroutine[Any, Any, Any]):
    """
    The coroutine of a spare task: parked until it adopts a suspended coroutine, which it then runs.

    ``first`` is the future that the coroutine awaits since its first step; the task has
    to await it first.
    """

    __slots__ = ("_context", "_coroutine", "_first", "_loop", "_parked")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._coroutine: Coroutine[Any, Any, Any] | None = None
        self._context: Context | None = None
        self._first: Any = _NOTHING
        self._parked: asyncio.Future[None] | None = None

    def adopt(self, coroutine: Coroutine[Any, Any, Any], context: Context, first: Any) -> None:
        """Continue a suspended coroutine, which awaits ``first``."""
        self._coroutine = coroutine
        self._context = context
        self._first = first
        if self._parked is not None and not self._parked.done():
            self._parked.set_result(None)

    def send(self, value: Any) -> Any:
        """Advance the adopted coroutine by a step, or park without one."""
        if self._coroutine is None or self._context is None:
            return self._park()
        if self._first is not _NOTHING:
            first, self._first = self._first, _NOTHING
            return first
        return call_in(self._context, self._coroutine.send, value)

    def throw(self, typ: Any, val: Any = None, tb: Any = None) -> Any:
        """Raise an exception inside the adopted coroutine."""
        error = val if val is not None else typ
        if self._coroutine is None or self._context is None:
            raise error
        first, self._first = self._first, _NOTHING
        # As Task.cancel() does: cancel the awaited future, which then cancels the coroutine.
        if isinstance(error, asyncio.CancelledError) and asyncio.isfuture(first) and first.cancel():
            return first
        return call_in(self._context, self._coroutine.throw, error)

    def close(self) -> None:
        """Close the adopted coroutine, if any."""
        if self._coroutine is not None:
            self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        raise RuntimeError("a relay is run by its own task")

    def _park(self) -> asyncio.Future[None]:
        self._parked = self._loop.create_future()
        self._parked._asyncio_future_blocking = True  # noqa: SLF001 (as `await` would set it)
        return self._parked


class Eager:
    """Starts coroutines eagerly; ``value`` is the result of the last one if it did not suspend."""

    if not cython.compiled:
        __slots__ = ("_loop", "_relay", "_spare", "value")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.value: Any = None
        #: A task that has not begun, and the coroutine it will run; None where asyncio has eager tasks.
        self._spare: Any = None
        self._relay = _Relay(loop)
        if not HAS_EAGER_TASKS:
            self._renew()

    def start(self, coroutine: Coroutine[Any, Any, Any], own: Context | None = None) -> asyncio.Task[Any] | None:
        """
        Run the first step, in the current context if that is given as ``own``, else in a copy of it.

        Returns the task that runs the rest, or None if the coroutine has finished.
        Exceptions of the first step propagate to the caller.
        """
        if HAS_EAGER_TASKS:
            return self._start_task(coroutine)
        spare: asyncio.Task[Any] = self._spare
        loop = self._loop
        caller = _RUNNING.get(loop)
        if caller is spare:  # called from within a first step, which may still need the spare task
            return loop.create_task(Contained(coroutine), context=own)
        if caller is not None:
            _leave_task(loop, caller)
        _enter_task(loop, spare)
        context = copy_context() if own is None else own
        try:
            has_ended = take_step(self, coroutine, context if own is None else None)
        except BaseException as error:
            if spare.cancelling():
                self._renew()
            if isinstance(error, ORDINARY):
                raise
            raise_contained(error)
        finally:
            _leave_task(loop, spare)
            if caller is not None:
                _enter_task(loop, caller)
        if has_ended and not spare.cancelling():
            return None
        relay = self._relay
        self._renew()
        if has_ended:  # the coroutine cancelled its own task, which would end as cancelled
            raise asyncio.CancelledError
        relay.adopt(coroutine, context, self.value)
        return spare

    def _start_task(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any] | None:
        # Always in a copy: the task enters its context itself, and a context cannot be entered twice.
        task = asyncio.Task(contain(coroutine), loop=self._loop, eager_start=True)  # type: ignore[call-arg, unused-ignore]
        if not task.done():
            return task
        self.value = task.result()
        return None

    def close(self) -> None:
        """Cancel the spare task."""
        if self._spare is not None:
            self._spare.cancel()

    def _renew(self) -> None:
        self._relay = _Relay(self._loop)
        self._spare = asyncio.Task(self._relay, loop=self._loop)

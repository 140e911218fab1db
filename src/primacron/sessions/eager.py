"""
Coroutines that cost no task when they finish without waiting.

Most handlers never wait. Their first step runs at once, inside the callback
that read the message, in a context of their own and with a task entered as
current, so that ``asyncio.timeout``, task groups and context variables work. One
that waits goes on as that task.
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

#: Whether asyncio does the same, which it does since Python 3.12.
HAS_EAGER_TASKS: Final = sys.version_info >= (3, 12)

# Of each event loop, the task that runs.
_RUNNING: dict[asyncio.AbstractEventLoop, asyncio.Task[Any]] = (
    {} if HAS_EAGER_TASKS else asyncio.tasks._current_tasks  # type: ignore[attr-defined]  # noqa: SLF001
)
_NOTHING: Final = object()

if not cython.compiled:

    def take_step(eager: Eager, coroutine: Coroutine[Any, Any, Any], context: Context | None) -> bool:
        """
        Run a coroutine until it waits or ends, in a context that is not the current one already.

        ``eager.value`` is what for, or with what; tells if it ended.
        """
        try:
            eager.value = coroutine.send(None) if context is None else context.run(coroutine.send, None)
        except StopIteration as stop:
            eager.value = stop.value
            return True
        return False


class _Relay(Coroutine[Any, Any, Any]):
    """
    What a spare task runs: nothing until a coroutine that waits is handed to it, then that one.

    ``first`` is what the coroutine waits for since its first step; the task
    has to wait for it in its place.
    """

    __slots__ = ("_context", "_coroutine", "_first", "_loop", "_parked")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._coroutine: Coroutine[Any, Any, Any] | None = None
        self._context: Context | None = None
        self._first: Any = _NOTHING
        self._parked: asyncio.Future[None] | None = None

    def adopt(self, coroutine: Coroutine[Any, Any, Any], context: Context, first: Any) -> None:
        """Go on with a coroutine that waits."""
        self._coroutine = coroutine
        self._context = context
        self._first = first
        if self._parked is not None and not self._parked.done():
            self._parked.set_result(None)

    def send(self, value: Any) -> Any:
        """Take a step; see :class:`collections.abc.Coroutine`."""
        if self._coroutine is None or self._context is None:
            return self._park()
        if self._first is not _NOTHING:
            first, self._first = self._first, _NOTHING
            return first
        return call_in(self._context, self._coroutine.send, value)

    def throw(self, typ: Any, val: Any = None, tb: Any = None) -> Any:
        """Raise inside the coroutine; see :class:`collections.abc.Coroutine`."""
        error = val if val is not None else typ
        if self._coroutine is None or self._context is None:
            raise error
        first, self._first = self._first, _NOTHING
        # As Task.cancel() does: what is waited for is cancelled first, and the coroutine hears of it from there.
        if isinstance(error, asyncio.CancelledError) and asyncio.isfuture(first) and first.cancel():
            return first
        return call_in(self._context, self._coroutine.throw, error)

    def close(self) -> None:
        """See :class:`collections.abc.Coroutine`."""
        if self._coroutine is not None:
            self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        raise RuntimeError("a relay is run by its own task")

    def _park(self) -> asyncio.Future[None]:
        self._parked = self._loop.create_future()
        self._parked._asyncio_future_blocking = True  # noqa: SLF001 (as `await` would set it)
        return self._parked


class Eager:
    """Starts coroutines; the result of one that did not wait is in ``value``."""

    if not cython.compiled:
        __slots__ = ("_loop", "_relay", "_spare", "value")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.value: Any = None
        #: A task that has not begun, None where asyncio makes one at once, and what it will run.
        self._spare: Any = None
        self._relay = _Relay(loop)
        if not HAS_EAGER_TASKS:
            self._renew()

    def start(self, coroutine: Coroutine[Any, Any, Any], own: Context | None = None) -> asyncio.Task[Any] | None:
        """
        Run the first step, in a copy of the current context, or in that itself if it is ``own``.

        Returns the task that goes on, or None when the coroutine is done.
        What the first step raises is raised here.
        """
        if HAS_EAGER_TASKS:
            return self._start_task(coroutine)
        spare: asyncio.Task[Any] = self._spare
        loop = self._loop
        caller = _RUNNING.get(loop)
        if caller is spare:  # called inside of a first step, which may still need its task
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
        if has_ended:  # cancelled by the coroutine itself; a task would end as cancelled
            raise asyncio.CancelledError
        relay.adopt(coroutine, context, self.value)
        return spare

    def _start_task(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any] | None:
        # Always in a copy: it enters its context by itself, and none can be entered twice.
        task = asyncio.Task(contain(coroutine), loop=self._loop, eager_start=True)  # type: ignore[call-arg, unused-ignore]
        if not task.done():
            return task
        self.value = task.result()
        return None

    def close(self) -> None:
        """Let go of what is kept ready."""
        if self._spare is not None:
            self._spare.cancel()

    def _renew(self) -> None:
        self._relay = _Relay(self._loop)
        self._spare = asyncio.Task(self._relay, loop=self._loop)

"""
Coroutines that cost no task when they finish without waiting.

Most handlers never wait. Their first step runs at once, inside the callback
that read the message, in a copied context and with a task entered as current,
so that ``asyncio.timeout``, task groups and context variables work. One that
waits goes on as that task.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Coroutine, Generator
from typing import Any, Final

try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython

if not cython.compiled:

    def take_step(eager: Eager, coroutine: Coroutine[Any, Any, Any], context: contextvars.Context) -> bool:
        """Run a coroutine until it waits or ends; ``eager.value`` is what for, or with what; tell if it ended."""
        try:
            eager.value = context.run(coroutine.send, None)
        except StopIteration as stop:
            eager.value = stop.value
            return True
        return False


if sys.version_info >= (3, 12):

    class Eager:
        """Starts coroutines; the result of one that did not wait is in ``value``."""

        __slots__ = ("_loop", "value")

        def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
            self._loop = loop
            self.value: Any = None

        def start(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any] | None:
            """
            Run the first step.

            Returns the task that goes on, or None when the coroutine is done.
            What the first step raises is raised here.
            """
            context = contextvars.copy_context()
            task = asyncio.Task(coroutine, loop=self._loop, context=context, eager_start=True)
            if not task.done():
                return task
            self.value = task.result()
            return None

        def close(self) -> None:
            """Let go of what is kept ready."""

else:
    from asyncio import _enter_task, _leave_task
    from asyncio.tasks import _current_tasks  # type: ignore[attr-defined]

    _NOTHING: Final = object()

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
            self._context: contextvars.Context | None = None
            self._first: Any = _NOTHING
            self._parked: asyncio.Future[None] | None = None

        def adopt(self, coroutine: Coroutine[Any, Any, Any], context: contextvars.Context, first: Any) -> None:
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
            return self._context.run(self._coroutine.send, value)

        def throw(self, typ: Any, val: Any = None, tb: Any = None) -> Any:
            """Raise inside the coroutine; see :class:`collections.abc.Coroutine`."""
            error = val if val is not None else typ
            if self._coroutine is None or self._context is None:
                raise error
            first, self._first = self._first, _NOTHING
            # As Task.cancel() does: what is waited for is cancelled first, and the coroutine hears of it from there.
            if isinstance(error, asyncio.CancelledError) and asyncio.isfuture(first) and first.cancel():
                return first
            return self._context.run(self._coroutine.throw, error)

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

        __slots__ = ("_loop", "_relay", "_spare", "value")

        def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
            self._loop = loop
            self.value: Any = None
            self._renew()

        def start(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any] | None:
            """
            Run the first step.

            Returns the task that goes on, or None when the coroutine is done.
            What the first step raises is raised here.
            """
            spare, loop = self._spare, self._loop
            caller = _current_tasks.get(loop)
            if caller is spare:  # called inside of a first step, which may still need its task
                return loop.create_task(coroutine)
            if caller is not None:
                _leave_task(loop, caller)
            _enter_task(loop, spare)
            context = contextvars.copy_context()
            try:
                has_ended = take_step(self, coroutine, context)
            except BaseException:
                if spare.cancelling():
                    self._renew()
                raise
            finally:
                _leave_task(loop, spare)
                if caller is not None:
                    _enter_task(loop, caller)
            if not has_ended:
                self._relay.adopt(coroutine, context, self.value)
                self._renew()
                return spare
            if spare.cancelling():  # by the coroutine itself; a task would end as cancelled
                self._renew()
                raise asyncio.CancelledError
            return None

        def close(self) -> None:
            """Let go of what is kept ready."""
            self._spare.cancel()

        def _renew(self) -> asyncio.Task[Any]:
            self._relay = _Relay(self._loop)
            self._spare: asyncio.Task[Any] = asyncio.Task(self._relay, loop=self._loop)
            return self._spare

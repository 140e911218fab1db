"""
Application code that raises what would end the program.

asyncio lets ``SystemExit`` and ``KeyboardInterrupt`` escape the event loop, so
``sys.exit()`` in a handler would end the server, or cut off whoever sent the message.
Where application code runs, they become errors like any other, unless a signal raised
them: then somebody does want the program to end, and the handler merely happened to
be running.
"""

from __future__ import annotations

import asyncio
import dis
import signal
import threading
from collections.abc import Coroutine, Generator
from types import CodeType, TracebackType
from typing import Any, Final, NoReturn

from primacron.errors import HandlerExited

#: Passed through unchanged: errors, and the normal ways to end a coroutine.
ORDINARY: Final = (Exception, asyncio.CancelledError, GeneratorExit)

#: Where asyncio raises the second interrupt.
_SECOND: Final = asyncio.Runner._on_sigint.__code__  # type: ignore[attr-defined]  # noqa: SLF001
_RAISE: Final = dis.opmap["RAISE_VARARGS"]


def contained(error: BaseException) -> BaseException:
    """
    Return the error to raise instead of an exception meant to end the program; others unchanged.

    If a signal raised it, the program does end, in the next turn of the event loop, since
    uvloop delays what its callbacks raise. The interrupted code counts as cancelled.
    """
    if isinstance(error, ORDINARY):
        return error
    if _is_of_signal(error):
        if not _ends_main_task(error):
            asyncio.get_running_loop().call_soon(_raise, error)
        return asyncio.CancelledError()
    found = HandlerExited(error)
    found.__cause__ = error
    return found


def _raise(error: BaseException) -> NoReturn:
    raise error


def raise_contained(error: BaseException) -> NoReturn:
    """Raise what :func:`contained` returns."""
    raise contained(error)


async def contain(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run an application coroutine in the current task, where its first step is sure to run."""
    try:
        return await coroutine
    except ORDINARY:
        raise
    except BaseException as error:
        raise_contained(error)


class Contained(Coroutine[Any, Any, Any]):
    """Wraps an application coroutine for a task, which may be cancelled before the first step."""

    __slots__ = ("_coroutine",)

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine

    def send(self, value: Any) -> Any:
        """Take a step, containing what it raises."""
        try:
            return self._coroutine.send(value)
        except ORDINARY:
            raise
        except BaseException as error:
            raise_contained(error)

    def throw(self, typ: Any, val: Any = None, tb: Any = None) -> Any:
        """Raise inside the coroutine, containing what it raises in turn."""
        try:
            return self._coroutine.throw(typ if val is None else val)
        except ORDINARY:
            raise
        except BaseException as error:
            raise_contained(error)

    def close(self) -> None:
        """Close the coroutine."""
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()


def _ends_main_task(error: BaseException) -> bool:
    """Tell whether it is the second interrupt of ``asyncio.run``, whose first one cancelled the main task."""
    return any(step.tb_frame.f_code is _SECOND for step in _steps(error.__traceback__))


def _is_of_signal(error: BaseException) -> bool:
    """Tell whether a signal handler raised the exception; Python runs those in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        return False
    handlers = _handlers_of_signals()
    innermost = error.__traceback__
    for step in _steps(error.__traceback__):
        if step.tb_frame.f_code in handlers:
            return True
        innermost = step
    if not isinstance(error, KeyboardInterrupt) or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return False
    # Python's own handler has no frame. It strikes between instructions, so the last one is not a raise.
    return innermost is None or not _is_raise(innermost)


def _steps(traceback: TracebackType | None) -> Generator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _handlers_of_signals() -> set[CodeType]:
    found: set[CodeType] = set()
    for number in signal.valid_signals():
        handler: Any = signal.getsignal(number)
        handler = getattr(handler, "func", handler)  # asyncio's own is a partial function
        code = getattr(getattr(handler, "__func__", handler), "__code__", None)
        if code is not None:
            found.add(code)
    return found


def _is_raise(step: TracebackType) -> bool:
    instructions = step.tb_frame.f_code.co_code
    return 0 <= step.tb_lasti < len(instructions) and instructions[step.tb_lasti] == _RAISE

"""
What would end the program, raised by the application's code.

asyncio lets ``SystemExit`` and ``KeyboardInterrupt`` out of the event loop, so that
``sys.exit()`` in a handler would end the server, or cut off whoever sent the message.
Where application code is run they become errors like any other, unless they come
from a signal: then somebody wants the program to end, and the handler is only where
that has hit.
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

#: What is left as it is: errors, and what ends a coroutine in order.
ORDINARY: Final = (Exception, asyncio.CancelledError, GeneratorExit)

#: Where asyncio raises it.
_SECOND: Final = asyncio.Runner._on_sigint.__code__  # type: ignore[attr-defined]  # noqa: SLF001
_RAISE: Final = dis.opmap["RAISE_VARARGS"]


def contained(error: BaseException) -> BaseException:
    """
    Return an error in the place of what the application raised to end the program; all else as it is.

    For a signal the program does end, in the next turn of the event loop: uvloop would hold
    up what goes through its callbacks. The code that it has hit counts as cancelled.
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
    """Run a coroutine of the application, whose first step is taken for certain."""
    try:
        return await coroutine
    except ORDINARY:
        raise
    except BaseException as error:
        raise_contained(error)


class Contained(Coroutine[Any, Any, Any]):
    """A coroutine of the application, to be run by a task, which may cancel it before its first step."""

    __slots__ = ("_coroutine",)

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine

    def send(self, value: Any) -> Any:
        """Take a step; see :class:`collections.abc.Coroutine`."""
        try:
            return self._coroutine.send(value)
        except ORDINARY:
            raise
        except BaseException as error:
            raise_contained(error)

    def throw(self, typ: Any, val: Any = None, tb: Any = None) -> Any:
        """Raise inside the coroutine; see :class:`collections.abc.Coroutine`."""
        try:
            return self._coroutine.throw(typ if val is None else val)
        except ORDINARY:
            raise
        except BaseException as error:
            raise_contained(error)

    def close(self) -> None:
        """See :class:`collections.abc.Coroutine`."""
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()


def _ends_main_task(error: BaseException) -> bool:
    """Tell whether it is the second interrupt of ``asyncio.run``, which has cancelled its main task at the first."""
    return any(step.tb_frame.f_code is _SECOND for step in _steps(error.__traceback__))


def _is_of_signal(error: BaseException) -> bool:
    """Tell whether an exception was raised because of a signal; Python hands those to its main thread."""
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
    # Python's own handler has no frame. It strikes between two instructions, and none of them raises.
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

"""The blocking way to run a server: with its own event loop and signal handling."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import secrets
import signal
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from types import FrameType
from typing import Any, Final, Protocol, TypeVar

from primacron.standalone.workers import Supervisor, Worker
from primacron.threads import DefaultExecutor

T = TypeVar("T")

#: Seconds the shutdown may take, and after which the process is killed: if the event loop does not react to the
#: signal, if the shutdown hangs, or after a second signal.
END_WITHIN: Final = 5.0
FORCED_AFTER: Final = 10.0
HURRIED: Final = 1.0
#: Innermost calls shown of where the event loop hangs.
SHOWN: Final = 4


class Runnable(Protocol):
    """A server that listens."""

    secrets: tuple[str, ...]
    is_local: bool

    @property
    def place(self) -> str:
        """Where clients find the stream."""

    @property
    def about(self) -> str:
        """Further information for the person at the terminal."""

    def explain_secret(self, secret: str) -> str:
        """Describe what a secret generated for this run is good for."""

    def count(self) -> int:
        """Return the number of sessions in this process."""

    async def destroy(self) -> None:
        """Shut it down."""

    async def wait_ended(self) -> None:
        """Wait until it has shut down, whoever asked for that."""

    def hurry(self) -> None:
        """Stop waiting for anything during the shutdown."""


def run(server: Runnable, listen: Callable[[], Awaitable[Any]], worker: Worker | None = None) -> None:
    """
    Listen, and serve until a signal or the end of the server; a ``worker`` also ends with its supervisor.

    Python delivers signals to the main thread only: in any other thread none are handled.
    """
    _demand_no_loop()
    ending = _Ending(server, is_worker=worker is not None)
    with ending.hearing_signals() if _is_main_thread() else contextlib.nullcontext():
        _run(_serve(server, listen, worker, ending))
    if ending.executor.cut:
        _say(f"functions in threads that were cut off: {ending.executor.cut}")
    if ending.is_hurried:
        sys.exit(1)


def supervise(server: Runnable, port: int, host: str | None, count: int) -> None:
    """Keep several workers running until a signal arrives."""
    _demand_no_loop()
    given = server.secrets
    secret = given[0] if given else secrets.token_urlsafe(24)

    async def serve() -> int:
        supervisor = Supervisor(port, host, count, secret, _say)
        if not given and supervisor.is_local:
            _say(server.explain_secret(secret))
        return await supervisor.run()

    status = _run(serve())
    if status:
        sys.exit(status)


def _demand_no_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError("an event loop runs already: in the place of run() use `await server.listen(...)`")


def _run(main: Coroutine[Any, Any, T]) -> T:
    try:
        import uvloop  # noqa: PLC0415 (used where it is installed)
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


class _Ending:
    """
    The shutdown of a serving process: requested by a first signal, forced by a second.

    Signals are handled outside the event loop, since a handler may block that forever.
    """

    def __init__(self, server: Runnable, *, is_worker: bool) -> None:
        self._server = server
        # A terminal sends SIGINT to workers too; their supervisor acts on it and sends them SIGTERM.
        self._heeded = (signal.SIGTERM,) if is_worker else (signal.SIGTERM, signal.SIGINT)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked_at: float | None = None
        self._is_heard = threading.Event()
        self._is_over = threading.Event()
        #: Set when the server is to shut down.
        self.stop = asyncio.Event()
        self.is_hurried = False
        self.executor = DefaultExecutor(self._left)

    @contextlib.contextmanager
    def hearing_signals(self) -> Iterator[None]:
        """Handle signals for the duration of the block."""
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        before = {number: signal.signal(number, self._on_signal) for number in numbers}
        try:
            yield
        finally:
            self._is_over.set()
            for number, function in before.items():
                signal.signal(number, signal.SIG_DFL if function is None else function)

    def begin(self) -> None:
        """Adopt the running event loop."""
        self._loop = asyncio.get_running_loop()
        # asyncio would wait for the threads of its own executor at the end, however long they take.
        self._loop.set_default_executor(self.executor)
        if self._asked_at is not None:
            self._heard()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number not in self._heeded:
            return  # the supervisor of the workers acts on it
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            self._tell(self._heard)
            self._watch(self._watch_end)
        else:
            self.is_hurried = True
            self._tell(self._server.hurry)
            self._watch(self._watch_hurry)

    def _heard(self) -> None:
        self._is_heard.set()
        self.stop.set()

    def _tell(self, function: Callable[[], object]) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is already closed
                self._loop.call_soon_threadsafe(function)

    def _left(self) -> float:
        """Return the seconds left to wait for functions in threads."""
        if self.is_hurried:
            return 0.0
        return END_WITHIN if self._asked_at is None else max(0.0, self._asked_at + END_WITHIN - time.monotonic())

    # In watchdog threads

    def _watch(self, function: Callable[[], None]) -> None:
        threading.Thread(target=function, name="end of the process", daemon=True).start()

    def _watch_end(self) -> None:
        if not self._is_heard.wait(END_WITHIN):
            self._force("the event loop has not turned since the signal")
        elif not self._is_over.wait(FORCED_AFTER - END_WITHIN):
            self._force("the end does not come")

    def _watch_hurry(self) -> None:
        if not self._is_over.wait(HURRIED):
            self._force("a second signal came")

    def _force(self, why: str) -> None:
        frame = sys._current_frames().get(threading.main_thread().ident or 0)  # noqa: SLF001 (no public API)
        where = "" if frame is None else "".join(traceback.format_stack(frame, SHOWN))
        _say(f"ended by force: {why}; the event loop is here\n{where}")
        os._exit(1)


async def _serve(
    server: Runnable, listen: Callable[[], Awaitable[Any]], worker: Worker | None, ending: _Ending
) -> None:
    ending.begin()
    stop = ending.stop
    try:
        await listen()
        if worker is None:
            _announce(server)
        elif not server.secrets and server.is_local:
            server.secrets = (worker.secret,)
        _settle_memory()
        if worker is not None:
            worker.begun(stop.set, server.place, server.about)
        await _wait_for_one(stop.wait(), server.wait_ended())
    finally:
        if worker is None:
            _say(f"ending {server.count()} sessions, {END_WITHIN:g} seconds at most")
        await server.destroy()


async def _wait_for_one(*awaited: Coroutine[Any, Any, Any]) -> None:
    """Wait for the first one to finish, and cancel the others."""
    tasks = [asyncio.ensure_future(each) for each in awaited]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def _announce(server: Runnable) -> None:
    _say(f"listening on {server.place}")
    _say(f"{server.about}; 1 process")
    if not server.secrets and server.is_local:
        server.secrets = (secrets.token_urlsafe(24),)
        _say(server.explain_secret(server.secrets[0]))


def _settle_memory() -> None:
    """Exempt everything loaded so far from garbage collection."""
    gc.collect()
    gc.freeze()


def _say(text: str) -> None:
    print(f"primacron: {text}", file=sys.stderr, flush=True)  # noqa: T201 (to the person at the terminal)

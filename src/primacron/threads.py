"""
Threads for plain functions that block.

At exit the interpreter waits for the threads of :mod:`concurrent.futures`, and
``asyncio.run`` for those of its default executor, however long they take. These
are not waited for: whatever still runs ends with the process.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

T = TypeVar("T")
_Job: TypeAlias = tuple[Future[Any], Callable[[], Any]]

#: Default size of a pool.
MOST: Final = 32


class Threads:
    """A pool of daemon threads, started on demand up to ``most``; further functions are queued."""

    def __init__(self, name: str, most: int = MOST) -> None:
        self._name = name
        self._most = most
        # Idle threads wait for the first of two conditions on one lock, which guards everything below.
        lock = threading.Lock()
        self._more = threading.Condition(lock)
        self._less = threading.Condition(lock)
        self._jobs: deque[_Job] = deque()
        self._count = 0
        self._idle = 0
        self._busy = 0
        self._is_closed = False

    def start(self, function: Callable[..., T], *args: Any) -> Future[T]:
        """
        Run a function in a thread; cancelling the future in time prevents the call.

        Raises:
            RuntimeError: if the pool is closed, or the system cannot start a thread.

        """
        future: Future[T] = Future()
        with self._more:
            if self._is_closed:
                raise RuntimeError("the server has ended, and its threads with it")
            if self._idle <= len(self._jobs) and self._count < self._most:
                self._add_thread()
            self._jobs.append((future, partial(function, *args)))
            self._more.notify()
        return future

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """Run a function in a thread and return its result; if this is cancelled, a running function continues."""
        return await asyncio.wrap_future(self.start(function, *args))

    def wait(self, seconds: float) -> int:
        """Block until all functions have returned, or for so many seconds; return how many are left."""
        with self._less:
            self._less.wait_for(lambda: not self._jobs and not self._busy, seconds)
            return len(self._jobs) + self._busy

    def close(self) -> None:
        """Accept no more functions, cancel those queued, and let each thread end when it can."""
        with self._more:
            self._is_closed = True
            jobs, self._jobs = self._jobs, deque()
            self._more.notify_all()
            self._less.notify_all()
        for future, _ in jobs:
            future.cancel()

    def _add_thread(self) -> None:
        thread = threading.Thread(target=self._work, name=f"{self._name} {self._count + 1}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no more; the existing threads will get to it
            if not self._count:
                raise
        else:
            self._count += 1

    # In a thread

    def _work(self) -> None:
        while (job := self._next()) is not None:
            future, function = job
            if future.set_running_or_notify_cancel():
                _settle(future, function)
            del job, future, function  # not kept alive until the next one arrives
            with self._less:
                self._busy -= 1
                self._less.notify_all()

    def _next(self) -> _Job | None:
        """Wait for a job; None means that the pool is closed."""
        with self._more:
            self._idle += 1
            while not self._jobs and not self._is_closed:
                self._more.wait()
            self._idle -= 1
            if not self._jobs:
                return None
            self._busy += 1
            return self._jobs.popleft()


def _settle(future: Future[Any], function: Callable[[], Any]) -> None:
    try:
        outcome = function()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(outcome)


class DefaultExecutor(ThreadPoolExecutor):
    """
    Serves the application's ``asyncio.to_thread`` on an event loop of our own.

    asyncio insists on this base class; nothing but its interface is inherited. On
    shutdown, ``seconds`` tells how long to wait for functions that are still running.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        super().__init__(1)
        self._threads_of_loop = Threads("to_thread")
        self._seconds = seconds
        #: Functions cut off at the end.
        self.cut = 0

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Start a function in a thread of the pool."""
        return self._threads_of_loop.start(partial(fn, *args, **kwargs))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait as long as ``seconds`` allows, then close the pool."""
        if wait:
            self.cut = self._threads_of_loop.wait(self._seconds())
        self._threads_of_loop.close()

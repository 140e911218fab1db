"""Commands to the backend, joined: what is asked while one batch is on its way goes with the next one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias

from primacron.cluster.base import BackendUnavailable

Command: TypeAlias = tuple[Any, ...]
#: Runs commands and returns their results, in the place of a failed one its error.
Execute: TypeAlias = Callable[[Sequence[Command]], Awaitable[list[Any]]]

#: Commands, and bytes of one batch.
MAX_BATCH: Final = 1_000
MAX_BYTES: Final = 1_048_576

_ENDING: Final = "the server is ending"


class Lane:
    """Sends commands in their order, one batch after another, with nobody waiting longer than a batch takes."""

    def __init__(self, execute: Execute) -> None:
        self._execute = execute
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[Command, int, asyncio.Future[Any]]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False

    def submit(self, *command: Any, size: int = 0) -> asyncio.Future[Any]:
        """Send a command; return the future of its result, or of :class:`BackendUnavailable`."""
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._is_closed:
            _settle(future, BackendUnavailable(_ENDING))
            return future
        self._queue.append((command, size, future))
        if self._task is None:
            self._task = self._loop.create_task(self._drain())
        return future

    async def gather(self, *commands: Command) -> list[Any]:
        """Send several commands; return their results, in the place of a failed one :class:`BackendUnavailable`."""
        return await asyncio.gather(*(self.submit(*command) for command in commands), return_exceptions=True)

    async def close(self) -> None:
        """Give up what is on its way, and send nothing any more."""
        self._is_closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        self._fail(BackendUnavailable(_ENDING))

    async def _drain(self) -> None:
        try:
            while self._queue:
                await self._send_batch()
        finally:
            self._task = None

    async def _send_batch(self) -> None:
        batch: list[tuple[Command, asyncio.Future[Any]]] = []
        size = 0
        while self._queue and len(batch) < MAX_BATCH and (not batch or size + self._queue[0][1] <= MAX_BYTES):
            command, bytes_, future = self._queue.popleft()
            size += bytes_
            batch.append((command, future))
        try:
            results = await self._execute([command for command, _ in batch])
        except BaseException as error:
            failure = error if isinstance(error, BackendUnavailable) else BackendUnavailable(repr(error))
            for _, future in batch:
                _settle(future, failure)
            self._fail(failure)
            if not isinstance(error, BackendUnavailable):
                raise
        else:
            for (_, future), result in zip(batch, results, strict=True):
                _settle(future, result)

    def _fail(self, error: BackendUnavailable) -> None:
        """Let nobody wait behind a batch that failed."""
        while self._queue:
            _settle(self._queue.popleft()[2], error)


def demand(result: Any) -> Any:
    """
    Return a result of :meth:`Lane.gather`.

    Raises:
        BackendUnavailable: if it is one.

    """
    if isinstance(result, BaseException):
        raise result
    return result


def _settle(future: asyncio.Future[Any], result: Any) -> None:
    if future.done():
        return
    if isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)

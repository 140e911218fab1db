"""Pipelines commands to the backend: those submitted while a batch is in flight form the next batch."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias

from primacron.cluster.errors import BackendUnavailable, NothingDone

Command: TypeAlias = tuple[Any, ...]
#: Runs commands and returns their results, with an exception in place of each one that failed.
Execute: TypeAlias = Callable[[Sequence[Command]], Awaitable[list[Any]]]

#: Maximum commands, and bytes, per batch.
MAX_BATCH: Final = 1_000
MAX_BYTES: Final = 1_048_576

_ENDING: Final = "the server is ending"


class CommandPipeline:
    """Sends commands in order, one batch at a time, so that none waits longer than for the batch before it."""

    def __init__(self, execute: Execute) -> None:
        self._execute = execute
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[Command, int, asyncio.Future[Any]]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False

    def submit(self, *command: Any, size: int = 0) -> asyncio.Future[Any]:
        """Queue a command; the future raises :class:`BackendUnavailable` if it fails."""
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._is_closed:
            _settle(future, NothingDone(_ENDING))
            return future
        self._queue.append((command, size, future))
        if self._task is None:
            self._task = self._loop.create_task(self._drain())
        return future

    async def gather(self, *commands: Command) -> list[Any]:
        """Run several commands; return their results, with :class:`BackendUnavailable` in place of each that failed."""
        return await asyncio.gather(*(self.submit(*command) for command in commands), return_exceptions=True)

    async def close(self) -> None:
        """Abandon what is in flight and reject all further commands."""
        self._is_closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        self._fail(NothingDone(_ENDING))

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
            self._fail(NothingDone(failure.why))
            if not isinstance(error, BackendUnavailable):
                raise
        else:
            for (_, future), result in zip(batch, results, strict=True):
                _settle(future, result)

    def _fail(self, error: BackendUnavailable) -> None:
        """Fail everything queued behind a batch that failed."""
        while self._queue:
            _settle(self._queue.popleft()[2], error)


def demand(result: Any) -> Any:
    """
    Return a result of :meth:`CommandPipeline.gather`, or raise it.

    Raises:
        BackendUnavailable: if the command failed.

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

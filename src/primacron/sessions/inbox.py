"""The queue of one session's messages, which are handled one at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

from primacron.turns import Turns

#: Handles one message; returns the task that still runs, or None if handling is complete.
Job: TypeAlias = Callable[[], "asyncio.Task[None] | None"]

MAX_BYTES: Final = 262_144
#: Factor by which the limits are raised while a call is pending: reading must continue for the answer to arrive.
CALL_FACTOR: Final = 4


class Inbox:
    """
    The queued jobs of one session.

    An inbox exists only while a handler runs or jobs wait: most messages never need one.
    """

    __slots__ = ("_bytes", "_calmed", "_is_deferred", "_jobs", "_limit", "_relieved", "_turns", "task")

    def __init__(self, limit: int, relieved: Callable[[], None], turns: Turns) -> None:
        self._limit = limit
        self._relieved = relieved
        self._turns = turns
        #: Whether the next job is deferred to a later turn.
        self._is_deferred = False
        self._jobs: deque[tuple[Job, int, str | bytes | None]] = deque()
        self._bytes = 0
        #: Set while no further job may start; called once none is running.
        self._calmed: Callable[[], None] | None = None
        self.task: asyncio.Task[None] | None = None

    def put(self, job: Job, size: int, message: str | bytes | None = None) -> None:
        """Queue a job of ``size`` bytes; ``message`` is the message it handles, if any."""
        self._jobs.append((job, size, message))
        self._bytes += size

    def put_back(self, job: Job) -> None:
        """Queue a job ahead of all others."""
        self._jobs.appendleft((job, 0, None))

    def calm(self, calmed: Callable[[], None]) -> None:
        """Start no further job; ``calmed`` is called once none is running."""
        self._calmed = calmed
        if self.task is None:
            calmed()

    @property
    def is_calm(self) -> bool:
        """Whether starting jobs is suspended."""
        return self._calmed is not None

    def go_on(self) -> None:
        """Resume starting jobs."""
        self._calmed = None
        if self.task is None:
            self._run_jobs()

    def messages(self) -> list[str | bytes]:
        """Return the queued messages."""
        return [message for _, _, message in self._jobs if message is not None]

    def is_full(self, factor: int = 1) -> bool:
        """Tell whether the limit, multiplied by ``factor``, is reached."""
        return len(self._jobs) >= self._limit * factor or self._bytes >= MAX_BYTES * factor

    @property
    def is_low(self) -> bool:
        """Whether reading may resume: at half the limit, so that it does not pause again at once."""
        return len(self._jobs) <= self._limit // 2 and self._bytes <= MAX_BYTES // 2

    @property
    def is_idle(self) -> bool:
        """Whether no job is running, queued or held back."""
        return self.task is None and not self._jobs and self._calmed is None and not self._is_deferred

    def defer(self) -> None:
        """Defer the next job to a later turn."""
        if not self._is_deferred:
            self._is_deferred = True
            self._turns.defer(self._take_turn)

    def _take_turn(self) -> None:
        self._is_deferred = False
        if self.task is None and self._calmed is None:
            self._run_jobs()

    def occupy(self, task: asyncio.Task[None]) -> None:
        """Start no further job until ``task`` is done."""
        self.task = task
        task.add_done_callback(self._go_on)

    def _go_on(self, _: asyncio.Task[None]) -> None:
        self.task = None
        if self._calmed is not None:
            self._calmed()
        else:
            self._run_jobs()

    def _run_jobs(self) -> None:
        while self._jobs and self._calmed is None:
            if self._turns.is_over():
                self.defer()
                break
            job, size, _ = self._jobs.popleft()
            self._bytes -= size
            task = job()
            if task is not None:
                self.occupy(task)
                break
        self._relieved()

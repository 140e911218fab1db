"""What waits for the handler of one session: its messages run one after another."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

from primacron.turns import Turns

#: Runs one message; returns the task it left behind, or None when it is done.
Job: TypeAlias = Callable[[], "asyncio.Task[None] | None"]

MAX_BYTES: Final = 262_144
#: While the session waits for an answer of the client, reading must go on to find it.
CALL_FACTOR: Final = 4


class Inbox:
    """
    The jobs of one session, while a handler of it runs.

    A session whose last handler ended has none: most messages never see an inbox.
    """

    __slots__ = ("_bytes", "_calmed", "_is_deferred", "_jobs", "_limit", "_relieved", "_turns", "task")

    def __init__(self, limit: int, relieved: Callable[[], None], turns: Turns) -> None:
        self._limit = limit
        self._relieved = relieved
        self._turns = turns
        #: Whether jobs wait for their turn.
        self._is_deferred = False
        self._jobs: deque[tuple[Job, int, str | bytes | None]] = deque()
        self._bytes = 0
        #: Set while no further job is started; called once none runs.
        self._calmed: Callable[[], None] | None = None
        self.task: asyncio.Task[None] | None = None

    def put(self, job: Job, size: int, message: str | bytes | None = None) -> None:
        """Queue a job, of a message unless it is None; ``size`` is that of the message."""
        self._jobs.append((job, size, message))
        self._bytes += size

    def put_back(self, job: Job) -> None:
        """Let a job come next, before all that wait."""
        self._jobs.appendleft((job, 0, None))

    def calm(self, calmed: Callable[[], None]) -> None:
        """Start no further job; the function is called once none runs."""
        self._calmed = calmed
        if self.task is None:
            calmed()

    @property
    def is_calm(self) -> bool:
        """Whether no further job is started."""
        return self._calmed is not None

    def go_on(self) -> None:
        """Start jobs again."""
        self._calmed = None
        if self.task is None:
            self._run_jobs()

    def messages(self) -> list[str | bytes]:
        """Return the messages that wait."""
        return [message for _, _, message in self._jobs if message is not None]

    def is_full(self, factor: int = 1) -> bool:
        """Tell whether so many times the limit is reached."""
        return len(self._jobs) >= self._limit * factor or self._bytes >= MAX_BYTES * factor

    @property
    def is_low(self) -> bool:
        """Whether reading may go on; well below the limit, so that it does not stop again at once."""
        return len(self._jobs) <= self._limit // 2 and self._bytes <= MAX_BYTES // 2

    @property
    def is_idle(self) -> bool:
        """Whether no handler runs and none waits."""
        return self.task is None and not self._jobs and self._calmed is None and not self._is_deferred

    def defer(self) -> None:
        """Start the next job in a later turn."""
        if not self._is_deferred:
            self._is_deferred = True
            self._turns.defer(self._take_turn)

    def _take_turn(self) -> None:
        self._is_deferred = False
        if self.task is None and self._calmed is None:
            self._run_jobs()

    def occupy(self, task: asyncio.Task[None]) -> None:
        """Wait for a handler before the next job."""
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

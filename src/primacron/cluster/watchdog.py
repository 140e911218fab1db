"""
Keeps the lease of a node whose event loop is late.

A handler that blocks for seconds keeps the node from renewing its lease, and the
others would take its sessions for gone. Meanwhile a thread renews it, by a
connection and an event loop of its own, and lets it say that the node is stuck. A
loop that hangs for good is not covered for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from primacron.cluster.base import Backend, BackendUnavailable, Lease
from primacron.ids import NodeId

#: Leases for which a loop that does not turn is covered, at most.
COVERED_FOR: Final = 3
#: Turns that are told in one lease.
TURNS: Final = 8


class Watchdog:
    """
    Watches over the event loop of this thread; ``open_backend`` is called in another one.

    ``problem`` hears, in the loop, of what nobody foresaw.
    """

    def __init__(
        self,
        node: NodeId,
        open_backend: Callable[[], Backend],
        lease: float,
        problem: Callable[[Exception], None],
    ) -> None:
        self._node = node
        self._open_backend = open_backend
        self._lease = lease
        self._problem = problem
        self._loop = asyncio.get_running_loop()
        self._turned_at = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self._said: tuple[Lease, Sequence[bytes], bytes] | None = None
        self._ends = threading.Event()
        self._has_ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=f"lease of {node}", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._turn()
        self._thread.start()

    async def stop(self) -> None:
        """Watch no longer; from now on the lease is left alone."""
        self._ends.set()
        if self._timer is not None:
            self._timer.cancel()
        # Not by a thread that waits for it: handlers of the application may have all of them.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._lease):
                await self._has_ended.wait()

    def renewed(self, lease: Lease, keys: Sequence[bytes], candidate: bytes) -> None:
        """Take note of how the loop itself has renewed the lease."""
        self._said = lease, [*keys], candidate

    def _turn(self) -> None:
        self._turned_at = time.monotonic()
        self._timer = self._loop.call_later(self._lease / TURNS, self._turn)

    # In the thread

    def _run(self) -> None:
        self._watch()
        self._tell(self._has_ended.set)

    def _watch(self) -> None:
        half = self._lease / 2
        while not self._ends.wait(max(self._turned_at + half - time.monotonic(), self._lease / TURNS)):
            if self._loop.is_closed():
                return  # its node is gone, whatever it has left behind
            if self._covers_for() > 0:
                try:
                    asyncio.run(self._cover())
                except Exception as error:
                    self._tell(self._problem, error)

    def _tell(self, function: Callable[..., object], *args: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            self._loop.call_soon_threadsafe(function, *args)

    def _covers_for(self) -> float:
        """Return for how many seconds the lease is to be renewed now; none while the loop turns."""
        late = time.monotonic() - self._turned_at
        if late < self._lease / 2 or self._said is None or self._ends.is_set():
            return 0.0
        return min(self._lease, COVERED_FOR * self._lease - late)

    async def _cover(self) -> None:
        backend = self._open_backend()
        try:
            while (seconds := self._covers_for()) > 0 and self._said is not None:
                lease, keys, candidate = self._said
                with contextlib.suppress(BackendUnavailable):  # it may be back before the lease ends
                    stuck = msgspec.structs.replace(lease, stuck=True)
                    await backend.registry.renew(self._node, stuck, seconds, keys, candidate)
                await asyncio.sleep(self._lease / TURNS)
        finally:
            await backend.close()

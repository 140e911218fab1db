"""
Keeps a node's lease alive while its event loop is blocked.

A handler that blocks for seconds keeps its node from renewing the lease, and the
other nodes would consider its sessions gone. A thread with a connection and an
event loop of its own renews the lease in the meantime, marked as stuck. It gives up
after a few lease periods: a loop that hangs for good must not be covered forever.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from primacron.cluster.backend import Backend
from primacron.cluster.errors import BackendUnavailable
from primacron.cluster.registry import Lease
from primacron.ids import NodeId

#: Lease periods for which a blocked loop is covered.
COVERED_FOR: Final = 3
#: Heartbeats of the loop per lease period.
TURNS: Final = 8


class Watchdog:
    """
    Watches the event loop of the current thread; ``open_backend`` is called in the watchdog's thread.

    ``problem`` is called in the loop with unexpected exceptions.
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
        """Start watching."""
        self._turn()
        self._thread.start()

    async def stop(self) -> None:
        """Stop watching; the lease is not touched again."""
        self._ends.set()
        if self._timer is not None:
            self._timer.cancel()
        # Not run_in_executor(thread.join): application handlers may occupy every executor thread.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._lease):
                await self._has_ended.wait()

    def renewed(self, lease: Lease, keys: Sequence[bytes], candidate: bytes) -> None:
        """Remember what the loop itself last renewed the lease with."""
        self._said = lease, [*keys], candidate

    def _turn(self) -> None:
        self._turned_at = time.monotonic()
        self._timer = self._loop.call_later(self._lease / TURNS, self._turn)

    # In the watchdog's thread

    def _run(self) -> None:
        self._watch()
        self._tell(self._has_ended.set)

    def _watch(self) -> None:
        half = self._lease / 2
        while not self._ends.wait(max(self._turned_at + half - time.monotonic(), self._lease / TURNS)):
            if self._loop.is_closed():
                return  # the node is gone, even if it never called stop()
            if self._covers_for() > 0:
                try:
                    asyncio.run(self._cover())
                except Exception as error:
                    self._tell(self._problem, error)

    def _tell(self, function: Callable[..., object], *args: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has closed meanwhile
            self._loop.call_soon_threadsafe(function, *args)

    def _covers_for(self) -> float:
        """Return the seconds to renew the lease for, 0 while the loop is responsive."""
        late = time.monotonic() - self._turned_at
        if late < self._lease / 2 or self._said is None or self._ends.is_set():
            return 0.0
        return min(self._lease, COVERED_FOR * self._lease - late)

    async def _cover(self) -> None:
        backend = self._open_backend()
        try:
            while (seconds := self._covers_for()) > 0 and self._said is not None:
                lease, keys, candidate = self._said
                with contextlib.suppress(BackendUnavailable):  # the backend may recover before the lease expires
                    stuck = msgspec.structs.replace(lease, stuck=True)
                    await backend.registry.renew(self._node, stuck, seconds, keys, candidate)
                await asyncio.sleep(self._lease / TURNS)
        finally:
            await backend.close()

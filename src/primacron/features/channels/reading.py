"""Reads pages of lists, no more than some at a time: after an outage all channels want one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeAlias

from primacron.channels.replay import MAX_NEWEST_BYTES, ReadNewest
from primacron.channels.stream import Read
from primacron.cluster.cluster import Cluster
from primacron.cluster.errors import BackendUnavailable
from primacron.cluster.kept import Kept, Page
from primacron.cluster.solo import Solo

#: Pages that are read at the same time, and the bytes of each.
MAX_READS: Final = 32
MAX_BYTES: Final = MAX_NEWEST_BYTES

#: Called with the page, or with None if it could not be read; must not raise.
TakePage: TypeAlias = Callable[[Page | None], None]


class PageReader:
    """Reads pages, in the order in which they are asked for."""

    def __init__(self, cluster: Cluster | Solo, run: Callable[[Coroutine[Any, Any, Any]], object]) -> None:
        self._cluster = cluster
        self._run = run
        self._queue: deque[tuple[str, Kept, Read | ReadNewest, TakePage]] = deque()
        self._readers = 0

    def read(self, name: str, kept: Kept, wish: Read | ReadNewest, take: TakePage) -> None:
        """Read a page of a list."""
        self._queue.append((name, kept, wish, take))
        if self._readers < MAX_READS:
            self._readers += 1
            self._run(self._read_on())

    async def _read_on(self) -> None:
        try:
            while self._queue:
                name, kept, wish, take = self._queue.popleft()
                take(await self._page(name, kept, wish))
        finally:
            self._readers -= 1

    async def _page(self, name: str, kept: Kept, wish: Read | ReadNewest) -> Page | None:
        ask, lists = self._cluster.link.ask, self._cluster.lists
        try:
            if isinstance(wish, ReadNewest):
                return await ask(lists.last, name, kept, wish.limit, MAX_BYTES)
            return await ask(lists.read, name, kept, wish.after, wish.limit, MAX_BYTES)
        except BackendUnavailable:
            return None

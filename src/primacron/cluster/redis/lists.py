"""Lists on Redis: a list and a hash with its numbers, in the same slot as their topic's channel."""

from __future__ import annotations

import secrets
from typing import Any, Final

from primacron.cluster.lists import KEY_COUNTS, MAX_PAGE, MAX_PUBLISHED, Appended, Kept, Lists, Page
from primacron.cluster.redis.client import RedisClient
from primacron.cluster.redis.keys import Keys
from primacron.cluster.redis.lua import WRITE, load_script
from primacron.cluster.redis.pipeline import CommandPipeline
from primacron.positions import Position

APPEND: Final = load_script("append")
PAGE: Final = load_script("page")


class RedisLists(Lists):
    """Lists on Redis."""

    def __init__(self, client: RedisClient, pipeline: CommandPipeline, keys: Keys) -> None:
        self._client = client
        self._pipeline = pipeline
        self._keys = keys

    async def append(self, name: str, item: bytes, kept: Kept, key: str | None = None) -> Appended:
        """Append and publish in one script run."""
        keys = [self._keys.list_numbers(name), self._keys.list(name)]
        if key is not None:
            keys.append(self._keys.list_key(name, key))
        command = APPEND.call(
            keys,
            item,
            kept.items,
            round(kept.seconds * 1000),
            round(kept.outlives * 1000),
            secrets.token_hex(8),
            self._client.publish,
            self._keys.topic(name),
            MAX_PUBLISHED,
            round(KEY_COUNTS * 1000),
        )
        is_new, epoch, offset, start = await self._pipeline.submit(*command, size=len(item))
        return Appended(Position(epoch.decode(), int(offset)), int(start), not is_new)

    async def read(self, name: str, kept: Kept, after: int, limit: int, size: int = MAX_PAGE) -> Page:
        """Return up to ``limit`` items above an offset."""
        return await self._read(name, kept, max(0, after), limit, size)

    async def last(self, name: str, kept: Kept, limit: int, size: int = MAX_PAGE) -> Page:
        """Return the newest items, up to ``limit``."""
        return await self._read(name, kept, -1, limit, size)

    async def _read(self, name: str, kept: Kept, after: int, limit: int, size: int) -> Page:
        keys = [self._keys.list_numbers(name), self._keys.list(name)]
        known_for = round((kept.seconds + kept.outlives) * 1000)
        found: Any = await self._pipeline.submit(*PAGE.call(keys, after, limit, secrets.token_hex(8), known_for, size))
        epoch, top, start, before, first, items = found
        return Page(Position(epoch.decode(), int(top)), int(start), before.decode(), int(first), items)

    async def clear(self, name: str) -> None:
        """Delete the items but not the numbers."""
        await self._pipeline.submit(*WRITE.call([self._keys.list(name)], "DEL"))

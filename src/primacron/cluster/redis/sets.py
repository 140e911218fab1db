"""The sets of sessions on Redis; :mod:`primacron.cluster.redis.keys` has their layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from primacron.cluster.redis.keys import Keys, encode_part
from primacron.cluster.redis.lua import WRITE, load_script
from primacron.cluster.redis.pipeline import CommandPipeline, demand
from primacron.cluster.sets import Sets
from primacron.entries import Name

KEEP: Final = load_script("keep")


class RedisSets(Sets):
    """Sets on Redis; ``keep`` is how long they outlive their session, in seconds."""

    def __init__(self, pipeline: CommandPipeline, keys: Keys, keep: float) -> None:
        self._pipeline = pipeline
        self._keys = keys
        self._keep = round(keep * 1000)

    async def add(self, kind: str, name: Name, member: bytes) -> None:
        """Add a member and clear the set's expiry."""
        key = self._keys.set(kind, name)
        for result in await self._pipeline.gather(WRITE.call([key], "SADD", member), WRITE.call([key], "PERSIST")):
            demand(result)

    async def remove(self, kind: str, name: Name, member: bytes) -> None:
        """Remove a member."""
        await self._pipeline.submit(*WRITE.call([self._keys.set(kind, name)], "SREM", member))

    async def keep(self, kind: str, name: Name, members: Sequence[bytes]) -> bool:
        """Add members for an unregistered session, until they expire."""
        keys = [self._keys.account(name[0]), self._keys.set(kind, name)]
        return bool(await self._pipeline.submit(*KEEP.call(keys, encode_part(name[1]), self._keep, *members)))

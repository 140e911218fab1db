"""Lists on Redis: a list and a hash with its numbers, in the same slot as their topic's channel."""

from __future__ import annotations

import asyncio
import secrets
from functools import partial
from typing import Any, Final, NamedTuple

from primacron.cluster.errors import BackendUnavailable, CommandRefused, NothingDone
from primacron.cluster.kept import KEY_COUNTS, MAX_PAGE, MAX_PUBLISHED, Appended, Kept, Page
from primacron.cluster.lists import Lists
from primacron.cluster.redis.client import RedisClient
from primacron.cluster.redis.keys import Keys
from primacron.cluster.redis.lua import WRITE, load_script
from primacron.cluster.redis.pipeline import CommandPipeline
from primacron.positions import Position

APPEND: Final = load_script("append")
PAGE: Final = load_script("page")

#: Items that one script run appends, and their bytes; Redis does nothing else meanwhile.
MAX_APPENDS: Final = 100
MAX_BYTES: Final = 1_048_576
#: Lists whose keys are remembered.
MAX_PLACES: Final = 10_000


class _Place(NamedTuple):
    """Where a list is: its keys, the slot of these, and its options for the script, without and with a key."""

    numbers: str
    list: str
    slot: int
    options: tuple[bytes, bytes]


class _Batch:
    """The appends of a tick to lists of one slot."""

    __slots__ = ("appends", "arguments", "keys", "size")

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.arguments: list[bytes] = []
        self.appends: list[tuple[str, asyncio.Future[Appended]]] = []
        self.size = 0


class RedisLists(Lists):
    """Lists on Redis; the appends of a tick are sent together."""

    def __init__(self, client: RedisClient, pipeline: CommandPipeline, keys: Keys) -> None:
        self._client = client
        self._pipeline = pipeline
        self._keys = keys
        self._loop = asyncio.get_running_loop()
        self._fresh: dict[int, _Batch] = {}
        self._places: dict[tuple[str, Kept], _Place] = {}

    def append(self, name: str, item: bytes, kept: Kept, key: str | None = None) -> asyncio.Future[Appended]:
        """Append and publish in one script run, at the end of this tick."""
        place = self._places.get((name, kept)) or self._find(name, kept)
        batch = self._fresh.get(place.slot)
        if batch is not None and (len(batch.appends) >= MAX_APPENDS or batch.size + len(item) > MAX_BYTES):
            self._send(batch)
            batch = None
        if batch is None:
            if not self._fresh:
                self._loop.call_soon(self._flush)
            batch = self._fresh[place.slot] = _Batch()
        appended: asyncio.Future[Appended] = self._loop.create_future()
        batch.keys += (place.numbers, place.list)
        if key is not None:
            batch.keys.append(self._keys.list_key(name, key))
        batch.arguments += (place.options[key is not None], item)
        batch.appends.append((place.list, appended))
        batch.size += len(item)
        return appended

    def _find(self, name: str, kept: Kept) -> _Place:
        numbers, topic = self._keys.list_numbers(name), self._keys.topic(name)
        options = f"{kept.items} {kept.seconds * 1000:.0f} {kept.outlives * 1000:.0f} {topic}"
        place = _Place(
            numbers,
            self._keys.list(name),
            self._client.slot_of(numbers),
            (f"0 {options}".encode(), f"1 {options}".encode()),
        )
        if len(self._places) >= MAX_PLACES:
            self._places.clear()
        self._places[name, kept] = place
        return place

    def _flush(self) -> None:
        fresh, self._fresh = self._fresh, {}
        for batch in fresh.values():
            self._send(batch)

    def _send(self, batch: _Batch) -> None:
        command = APPEND.call(
            batch.keys,
            secrets.token_hex(8),
            self._client.publish,
            MAX_PUBLISHED,
            round(KEY_COUNTS * 1000),
            *batch.arguments,
        )
        sent = self._pipeline.submit(*command, size=batch.size)
        sent.add_done_callback(partial(self._answered, batch))

    def _answered(self, batch: _Batch, sent: asyncio.Future[Any]) -> None:
        error = BackendUnavailable("the server is ending") if sent.cancelled() else sent.exception()
        results = [] if error is not None else sent.result()
        for index, (list, appended) in enumerate(batch.appends):
            if appended.done():
                continue
            if error is not None:
                appended.set_exception(error)
                continue
            is_new, *found = results[index]
            if is_new < 0:
                refused = self._client.judge(APPEND.name, list, found[0].decode("utf-8", "replace"))
                appended.set_exception(refused if isinstance(refused, CommandRefused) else NothingDone(refused.why))
            else:
                epoch, offset, start = found
                appended.set_result(Appended(Position(epoch.decode(), int(offset)), int(start), not is_new))

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

"""Lists on Redis under real faults: what may be lost begins a new epoch, and what was given up is not done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import pytest

from primacron.cluster.errors import BackendUnavailable, CommandRefused
from primacron.cluster.kept import Appended, Kept
from primacron.cluster.lists import Lists
from primacron.cluster.redis.keys import Keys
from primacron.positions import Position
from primacron.testing.contract import offsets
from tests.cluster.grounds import ground_on
from tests.support.redis import RedisProcess, in_thread

KEPT: Final = Kept(100, 60, 60)


async def append(lists: Lists, *items: bytes) -> list[Position]:
    """Append items to one list; return where they are."""
    return [(await lists.append("lot:7", item, KEPT)).position for item in items]


async def test_numbers_go_on_in_a_new_epoch_after_a_redis_has_lost_what_it_had_not_saved(
    namespace: str, anyio_backend: object
) -> None:
    with RedisProcess() as process:
        async with ground_on(process.url, namespace) as ground:
            lists = ground.backend().lists
            (*_, saved) = await append(lists, b"a", b"b")
            await in_thread(process.command, "SAVE")
            (lost,) = await append(lists, b"lost")
            await in_thread(process.kill)
            await in_thread(process.start)
            page = await lists.read("lot:7", KEPT, 0, 10)
            assert page.top == saved
            (new,) = await append(lists, b"c")
            page = await lists.read("lot:7", KEPT, 0, 10)
            assert (new.offset, page.start, page.before) == (lost.offset, lost.offset, lost.epoch)
            assert new.epoch != lost.epoch
            assert offsets(page) == [(1, b"a"), (2, b"b"), (3, b"c")]


async def test_numbers_begin_again_in_a_new_epoch_after_all_was_lost(namespace: str, anyio_backend: object) -> None:
    with RedisProcess() as process:
        async with ground_on(process.url, namespace) as ground:
            lists = ground.backend().lists
            (*_, before) = await append(lists, b"a", b"b")
            await in_thread(process.command, "FLUSHALL")
            (new,) = await append(lists, b"c")
            assert (new.offset, new.epoch != before.epoch) == (1, True)
            assert (await lists.read("lot:7", KEPT, 0, 10)).before == ""


async def test_an_append_that_was_given_up_is_not_done_later(namespace: str, anyio_backend: object) -> None:
    with RedisProcess() as process:
        async with ground_on(process.url, namespace, redis_timeout=0.5) as ground:
            lists = ground.backend().lists
            await append(lists, b"a")
            await in_thread(process.freeze)
            with pytest.raises(BackendUnavailable):
                await append(lists, b"given up")
            await in_thread(process.thaw)
            (after,) = await append(lists, b"b")
            assert after.offset == 2
            assert offsets(await lists.read("lot:7", KEPT, 0, 10)) == [(1, b"a"), (2, b"b")]


@pytest.mark.parametrize(
    "damage",
    [
        lambda keys: ("HDEL", keys.list_numbers("lot:7"), "top"),
        lambda keys: ("HSET", keys.list_numbers("lot:7"), "top", "many"),
        lambda keys: ("HSET", keys.list_numbers("lot:7"), "start", ""),
        lambda keys: ("DEL", keys.list_numbers("lot:7")),
    ],
)
async def test_a_list_whose_numbers_are_damaged_begins_anew(
    damage: Callable[[Keys], tuple[str, ...]], namespace: str, anyio_backend: object
) -> None:
    with RedisProcess() as process:
        async with ground_on(process.url, namespace) as ground:
            lists = ground.backend().lists
            (*_, before) = await append(lists, b"a", b"b")
            await in_thread(process.command, *damage(Keys(namespace)))
            (new,) = await append(lists, b"c")
            assert (new.offset, new.epoch != before.epoch) == (1, True)
            assert offsets(await lists.read("lot:7", KEPT, 0, 10)) == [(1, b"c")]


@pytest.mark.parametrize("name", [Keys.list, Keys.list_numbers])
async def test_a_list_whose_key_is_something_else_is_refused_and_named(
    name: Callable[[Keys, str], str], namespace: str, anyio_backend: object
) -> None:
    with RedisProcess() as process:
        async with ground_on(process.url, namespace) as ground:
            lists = ground.backend().lists
            await append(lists, b"a")
            await in_thread(process.command, "SET", name(Keys(namespace), "lot:7"), "x")
            for attempt in (append(lists, b"b"), lists.read("lot:7", KEPT, 0, 10)):
                with pytest.raises(CommandRefused, match=f"{namespace}:list:.*WRONGTYPE"):
                    await attempt


async def test_a_list_that_cannot_be_written_keeps_no_other_from_it(namespace: str, anyio_backend: object) -> None:
    with RedisProcess() as process:
        async with ground_on(process.url, namespace) as ground:
            lists = ground.backend().lists
            await lists.append("broken", b"a", KEPT)
            await in_thread(process.command, "SET", Keys(namespace).list("broken"), "x")
            names = ["lot:1", "broken", "lot:2", "lot:1"]
            found = await asyncio.gather(*(lists.append(name, b"a", KEPT) for name in names), return_exceptions=True)
            refused = found.pop(1)
            assert isinstance(refused, CommandRefused)
            assert f"{namespace}:list:{{broken}}" in str(refused)
            assert [each.position.offset for each in found if isinstance(each, Appended)] == [1, 1, 2]


async def test_an_item_that_must_not_be_published_is_not_kept(namespace: str, anyio_backend: object) -> None:
    with RedisProcess() as process:
        async with ground_on(process.url, namespace) as ground:
            lists = ground.backend().lists
            await append(lists, b"a")
            process.command("ACL", "SETUSER", "mute", "on", ">password", "~*", "+@all", "resetchannels")
            url = process.url.replace("://", "://mute:password@")
            async with ground_on(url, namespace) as muted:
                for _ in range(2):
                    with pytest.raises(CommandRefused):
                        await muted.backend().lists.append("lot:7", b"muted", KEPT, "key")
            (second,) = await append(lists, b"b")
            assert second.offset == 2
            assert offsets(await lists.read("lot:7", KEPT, 0, 10)) == [(1, b"a"), (2, b"b")]

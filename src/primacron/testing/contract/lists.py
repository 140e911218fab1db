"""What lists do."""

from __future__ import annotations

import asyncio
from typing import Final

from primacron.cluster.kept import Appended, Kept, Page, Published, unpack_published
from primacron.cluster.lists import Lists
from primacron.positions import Position
from primacron.testing.contract.ground import DEADLINE, Case, Ground, adding_to
from primacron.testing.contract.topics import TopicEars

CASES: Final[list[Case]] = []
case: Final = adding_to(CASES)


KEPT: Final = Kept(items=8, seconds=60, outlives=60)
TOPIC: Final = "lot:7"


def offsets(page: Page) -> list[tuple[int, bytes]]:
    """Return the items of a page with their offsets."""
    return [(page.first + place, item) for place, item in enumerate(page.items)]


async def append(lists: Lists, *items: bytes, kept: Kept = KEPT) -> list[Appended]:
    """Append items one after another."""
    return [await lists.append(TOPIC, item, kept) for item in items]


@case
async def items_are_numbered_from_one_and_read_by_their_offset(ground: Ground) -> None:
    lists, others = ground.backend().lists, ground.backend().lists
    appended = await append(lists, b"a", b"b", b"c")
    assert [each.position.offset for each in appended] == [1, 2, 3]
    assert {each.position.epoch for each in appended} == {appended[0].position.epoch}
    page = await others.read(TOPIC, KEPT, 1, 10)
    assert offsets(page) == [(2, b"b"), (3, b"c")]
    assert (page.top, page.start) == (appended[-1].position, 1)
    assert offsets(await others.read(TOPIC, KEPT, 0, 2)) == [(1, b"a"), (2, b"b")]
    assert offsets(await others.last(TOPIC, KEPT, 2)) == [(2, b"b"), (3, b"c")]
    assert offsets(await others.last(TOPIC, KEPT, 10)) == [(1, b"a"), (2, b"b"), (3, b"c")]
    for after in (3, 4, 1_000):
        page = await others.read(TOPIC, KEPT, after, 10)
        assert (page.top, [*page.items]) == (appended[-1].position, [])


@case
async def a_list_that_nobody_has_written_has_an_epoch_that_its_first_item_shares(ground: Ground) -> None:
    lists = ground.backend().lists
    page = await lists.read(TOPIC, KEPT, 0, 10)
    assert (page.top.offset, page.start, page.before, [*page.items]) == (0, 1, "", [])
    assert page.top.epoch
    assert (await lists.read(TOPIC, KEPT, 5, 10)).top == page.top
    (appended,) = await append(lists, b"a")
    assert appended == Appended(Position(page.top.epoch, 1), 1)


@case
async def a_list_keeps_its_newest_items(ground: Ground) -> None:
    lists = ground.backend().lists
    items = [b"%d" % number for number in range(1, 41)]
    await append(lists, *items)
    page = await lists.read(TOPIC, KEPT, 0, 100)
    assert KEPT.items <= len(page.items) <= KEPT.items * 1.25
    assert offsets(page) == [(int(item), item) for item in items[-len(page.items) :]]
    assert page.top.offset == 40
    last_value = Kept(1, 60, 60)
    for item in items:
        await lists.append("price", item, last_value)
    assert offsets(await lists.last("price", last_value, 1)) == [(40, b"40")]


@case
async def a_page_has_no_more_bytes_than_asked_for_but_always_an_item(ground: Ground) -> None:
    lists = ground.backend().lists
    items = [b"%d" % number * 100 for number in range(8)]
    await append(lists, *items)
    for size, count in ((0, 1), (99, 1), (100, 1), (199, 1), (350, 3), (800, 8), (10_000, 8)):
        page = await lists.read(TOPIC, KEPT, 0, 10, size)
        assert offsets(page) == [*enumerate(items, 1)][:count]
        page = await lists.last(TOPIC, KEPT, 10, size)
        assert offsets(page) == [*enumerate(items, 1)][-count:]
    assert offsets(await lists.read(TOPIC, KEPT, 5, 10, 250)) == [(6, items[5]), (7, items[6])]
    assert offsets(await lists.last(TOPIC, KEPT, 2, 10_000)) == [(7, items[6]), (8, items[7])]


@case
async def what_is_appended_in_one_tick_is_so_in_that_order(ground: Ground) -> None:
    lists, kept = ground.backend().lists, Kept(1_000, 60, 60)
    subscriber = await TopicEars.join(ground, "a", "lot:1", "lot:2")
    names = [f"lot:{number % 2 + 1}" for number in range(250)]
    keys = [None if number % 7 else f"key {number // 2}" for number in range(250)]
    futures = [
        lists.append(name, b"%d" % number, kept, key)
        for number, (name, key) in enumerate(zip(names, keys, strict=True))
    ]
    appended = [await future for future in futures]
    for name in ("lot:1", "lot:2"):
        places = [each.position.offset for each, own in zip(appended, names, strict=True) if own == name]
        assert places == [*range(1, 126)]
    heard = [unpack_published((await subscriber.next())[1]) for _ in range(250)]
    for each in heard:
        assert each.item is not None
        assert appended[int(each.item)].position == each.position
    # One whose items are large is sent in parts.
    large = [lists.append("lot:3", bytes(150_000), kept) for _ in range(20)]
    assert [(await future).position.offset for future in large] == [*range(1, 21)]


@case
async def long_lists_are_read_in_order(ground: Ground) -> None:
    lists, kept = ground.backend().lists, Kept(1_000, 60, 60)
    items = [b"%d" % number for number in range(1, 201)]
    await append(lists, *items, kept=kept)
    numbered = [*enumerate(items, 1)]
    for limit in (1, 31, 32, 33, 64, 100, 199, 200, 300):
        assert offsets(await lists.read(TOPIC, kept, 0, limit)) == numbered[:limit]
        assert offsets(await lists.read(TOPIC, kept, 77, limit)) == numbered[77:][:limit]
        assert offsets(await lists.last(TOPIC, kept, limit)) == numbered[-limit:]
    # 33 of 10 bytes each have more than 325, wherever the pages of the backend end.
    long = [b"%010d" % number for number in range(100)]
    await append(lists, *long, kept=kept)
    for size in (315, 320, 325, 330):
        assert [*(await lists.read(TOPIC, kept, 200, 100, size)).items] == long[: size // 10]
        assert [*(await lists.last(TOPIC, kept, 100, size)).items] == long[-(size // 10) :]


@case
async def what_is_appended_is_published_with_its_position(ground: Ground) -> None:
    lists, subscriber = ground.backend().lists, await TopicEars.join(ground, "a", TOPIC)
    for item in (b"a", b"", bytes(range(256)), b"x" * 200_000, b"y" * 200_001):
        (appended,) = await append(lists, item)
        topic, body = await subscriber.next()
        carried = item if len(item) <= 200_000 else None
        assert (topic, unpack_published(body)) == (TOPIC, Published(appended.position, 1, carried))
    assert offsets(await lists.last(TOPIC, KEPT, 1)) == [(5, b"y" * 200_001)]


@case
async def an_item_with_a_key_is_appended_once(ground: Ground) -> None:
    lists, others = ground.backend().lists, ground.backend().lists
    subscriber = await TopicEars.join(ground, "a", TOPIC)
    first = await lists.append(TOPIC, b"a", KEPT, "key 1")
    again = await others.append(TOPIC, b"a", KEPT, "key 1")
    assert (first.position, first.is_repeat) == (again.position, not again.is_repeat)
    assert (await others.append(TOPIC, b"b", KEPT, "key 2")).position.offset == 2
    assert (await others.append("lot:8", b"a", KEPT, "key 1")).position.offset == 1
    assert [unpack_published((await subscriber.next())[1]).item for _ in range(2)] == [b"a", b"b"]
    assert subscriber.heard.empty()


@case
async def a_list_that_is_cleared_goes_on_with_its_numbers(ground: Ground) -> None:
    lists = ground.backend().lists
    (*_, third) = await append(lists, b"a", b"b", b"c")
    await lists.clear(TOPIC)
    page = await lists.read(TOPIC, KEPT, 0, 10)
    assert (page.top, page.first, [*page.items]) == (third.position, 4, [])
    (fourth,) = await append(lists, b"d")
    assert fourth.position == Position(third.position.epoch, 4)
    assert offsets(await lists.read(TOPIC, KEPT, 0, 10)) == [(4, b"d")]


@case
async def items_are_forgotten_in_time_and_their_numbers_later(ground: Ground) -> None:
    lists = ground.backend().lists
    short = Kept(items=8, seconds=0.6, outlives=0.8)
    (*_, third) = await append(lists, b"a", b"b", b"c", kept=short)
    async with asyncio.timeout(DEADLINE):
        while (await lists.read(TOPIC, short, 0, 10)).items:
            await asyncio.sleep(0.02)
    (fourth,) = await append(lists, b"d", kept=short)
    assert fourth.position == Position(third.position.epoch, 4)
    assert offsets(await lists.read(TOPIC, short, 0, 10)) == [(4, b"d")]
    async with asyncio.timeout(DEADLINE):
        while (page := await lists.read(TOPIC, short, 0, 10)).top.offset:
            await asyncio.sleep(0.1)
    assert (page.top.offset, [*page.items]) == (0, [])


@case
async def items_that_go_on_coming_are_not_forgotten(ground: Ground) -> None:
    lists = ground.backend().lists
    short = Kept(items=100, seconds=1.5, outlives=0.5)
    for number in range(1, 21):
        (appended,) = await append(lists, b"%d" % number, kept=short)
        await asyncio.sleep(0.1)
    assert appended.position.offset == 20
    assert len((await lists.last(TOPIC, short, 100)).items) == 20

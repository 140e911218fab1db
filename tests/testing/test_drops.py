"""What a server and its clients make of each kind of drop, by websocket and by polling."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from primacron import Primacron, Session
from primacron.testing import Proxy
from primacron.testing.proxied import Drop
from tests.support.engine import Client, Events, Polling
from tests.support.hearing import Hearing
from tests.support.http import RawConnection
from tests.support.serving import serving
from tests.testing.feed import run_feed
from tests.testing.test_proxy import sees_reset
from tests.transports.test_repeats import until

#: Long enough for what comes before the drop.
HEARTBEAT: Final[dict[str, Any]] = {"ping_interval": 0.5, "ping_timeout": 0.5}
KINDS = ("standalone", "asgi")
PINGED_OUT = "ping timeout"


class Shop:
    """A server behind a proxy that tells prices, and takes bids."""

    def __init__(self, server: Primacron, proxy: Proxy) -> None:
        self.server = server
        self.proxy = proxy
        self.client = Client(proxy.port)
        self.bids: list[int] = []
        self.ends = Hearing(server, "disconnection")
        server.event("bid")(self._bid)

    def _bid(self, session: Session, cents: int) -> None:
        self.bids.append(cents)

    def tell(self, price: int) -> None:
        """Send a price to everyone."""
        self.server.everyone.emit("price", price)

    async def until_lost(self, price: int) -> None:
        """Send a price that the proxy throws away, and wait until it has."""
        lost = self.proxy.lost
        self.tell(price)
        await until(lambda: self.proxy.lost > lost)

    async def end_of_session(self) -> str:
        """Return why the next session ended."""
        _, reason = await self.ends.next()
        return str(reason)


@pytest.fixture(params=KINDS)
async def shop(request: pytest.FixtureRequest, anyio_backend: object) -> AsyncIterator[Shop]:
    server = Primacron(**HEARTBEAT)
    async with serving(server, request.param) as port, Proxy(port) as proxy:
        made = Shop(server, proxy)
        yield made
        await made.client.close()


def price_of(message: Any) -> int:
    """Return the price that a message tells."""
    assert message["event"] == "price"
    return int(message["args"][0])


async def connected(shop: Shop) -> Events:
    """Connect a client by websocket, to which a price and from which a bid has come."""
    events = await shop.client.connect()
    shop.tell(0)
    assert price_of(await events.receive()) == 0
    await events.emit("bid", 0)
    await until(lambda: shop.bids == [0])
    return events


# By websocket


async def test_after_a_clean_drop_both_know(shop: Shop) -> None:
    events = await connected(shop)
    await shop.proxy.drop("clean")
    await sees_reset(events.socket.raw)
    assert await shop.end_of_session() == "transport close"


async def test_after_a_half_open_drop_the_server_sends_to_nobody_until_a_pong_is_missing(shop: Shop) -> None:
    events = await connected(shop)
    await shop.proxy.drop("half-open")
    await sees_reset(events.socket.raw)
    await shop.until_lost(1)
    again = await shop.client.connect("account=b")
    assert await shop.server.everyone.sessions() != []
    shop.tell(2)
    assert price_of(await again.receive()) == 2
    assert shop.ends.is_empty
    assert await shop.end_of_session() == PINGED_OUT


async def test_after_a_silent_drop_nobody_knows_until_a_heartbeat_is_missing(shop: Shop) -> None:
    events = await connected(shop)
    await shop.proxy.drop("silent")
    await shop.until_lost(1)
    lost = shop.proxy.lost
    await events.emit("bid", 1)
    await until(lambda: shop.proxy.lost > lost)
    assert await shop.end_of_session() == PINGED_OUT
    assert shop.bids == [0]
    assert not events.socket.raw.reader.at_eof()


async def test_after_a_one_way_drop_to_the_client_its_events_arrive_until_a_pong_is_missing(shop: Shop) -> None:
    events = await connected(shop)
    await shop.proxy.drop("one-way")
    await shop.until_lost(1)
    await events.emit("bid", 1)
    await until(lambda: shop.bids == [0, 1])
    assert await shop.end_of_session() == PINGED_OUT


async def test_after_a_one_way_drop_to_the_server_its_events_and_its_close_arrive(shop: Shop) -> None:
    events = await connected(shop)
    await shop.proxy.drop("one-way", way="to_server")
    await events.emit("bid", 1)
    shop.tell(1)
    assert price_of(await events.receive()) == 1
    assert str(await events.socket.receive()) == "2"
    await events.socket.send("3")
    assert await events.receive_close() == (1001, PINGED_OUT)
    assert await shop.end_of_session() == PINGED_OUT
    assert shop.bids == [0]


async def test_a_repeat_is_nothing_to_a_websocket(shop: Shop) -> None:
    events = await connected(shop)
    assert await shop.proxy.drop("repeat") == 0
    shop.tell(1)
    assert price_of(await events.receive()) == 1


# By polling


class Waiting:
    """A client with a poll that waits; each of its requests has another ``t``."""

    def __init__(self, shop: Shop, polling: Polling) -> None:
        self._shop = shop
        self._polling = polling
        self._stamp = 0
        self._raw: RawConnection

    @classmethod
    async def begin(cls, shop: Shop) -> Waiting:
        """Connect, and poll."""
        made = cls(shop, await shop.client.poll_in("account=a&t=first"))
        await made.poll()
        return made

    @property
    def raw(self) -> RawConnection:
        """The connection of the poll that waits."""
        return self._raw

    async def poll(self) -> None:
        """Poll, and wait until the server has the request."""
        self._stamp += 1
        self._raw = await self._shop.client.raw()
        await self._raw.send_request("GET", f"{self._polling.target}&t={self._stamp}")
        for _ in range(3):
            assert (await self._polling.client.fetch("OPTIONS", self._polling.target)).status == 204

    async def receive(self) -> int:
        """Return the next price, and poll again."""
        while True:
            packet = (await self._raw.read_response()).text
            await self.poll()
            if packet != "2":
                return price_of(json.loads(packet[1:]))
            assert (await self._polling.post("3")).text == "ok"


async def test_a_poll_that_is_dropped_cleanly_ends_its_session(shop: Shop) -> None:
    waiting = await Waiting.begin(shop)
    await shop.proxy.drop("clean")
    await sees_reset(waiting.raw)
    assert await shop.end_of_session() == "transport close"


@pytest.mark.parametrize("kind", ["half-open", "silent", "one-way"])
async def test_the_answer_to_a_poll_that_was_dropped_in_silence_is_missing_from_the_next_one(
    shop: Shop, kind: Drop
) -> None:
    waiting = await Waiting.begin(shop)
    await shop.proxy.drop(kind)
    await shop.until_lost(1)
    await waiting.poll()
    shop.tell(2)
    assert await waiting.receive() == 2
    assert shop.ends.is_empty


async def test_a_repeat_of_a_poll_that_waits_takes_its_place(shop: Shop) -> None:
    waiting = await Waiting.begin(shop)
    lost = shop.proxy.lost
    assert await shop.proxy.drop("repeat") == 1
    await until(lambda: shop.proxy.lost > lost)  # the answer to the first one: it gave way
    for price in (1, 2):
        shop.tell(price)
        assert await waiting.receive() == price


async def test_a_repeat_of_a_poll_whose_answer_was_lost_gets_the_same_answer(shop: Shop) -> None:
    waiting = await Waiting.begin(shop)
    await shop.proxy.drop("one-way")
    await shop.until_lost(1)
    shop.tell(2)
    assert await shop.proxy.drop("repeat") == 1
    assert [await waiting.receive() for _ in range(2)] == [1, 2]


# What is lost


@pytest.mark.parametrize("kind", ["clean", "half-open", "silent", "one-way"])
async def test_a_client_that_does_not_resume_misses_what_is_sent_while_it_is_away_and_no_more(
    kind: Drop, anyio_backend: object
) -> None:
    numbers = 40
    server = Primacron()
    async with serving(server, "standalone") as port:
        found = await run_feed(server, port, kind, clients=5, numbers=numbers)
    for arrived in found:
        assert len(arrived.missed) in range(6, 9)
        assert arrived.doubles == 0
        assert arrived.is_in_order
        for came in arrived.numbers.values():
            assert {*range(numbers)} - {*came} == {*arrived.missed}

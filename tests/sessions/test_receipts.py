"""A send's outcome: told to who asks in its tick, or who asked for it; and free for who does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from primacron import Delivery, Reach, Receipt, ReceiptNotRequested
from primacron.receipts import ACCEPTED, REFUSED, UNKNOWN_SESSION, UNSENT
from tests.sessions.line import Bench

Send = Callable[..., Delivery[Any]]


@pytest.fixture(params=["uvloop", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@pytest.fixture
async def bench(anyio_backend: object) -> AsyncIterator[Bench]:
    """Return a hub."""
    made = Bench()
    yield made
    made.close()


@pytest.fixture(params=["accepted", "other"])
async def send(request: pytest.FixtureRequest, anyio_backend: object) -> AsyncIterator[Send]:
    """Return a function that makes what a send returns: for most sends of a tick it is one and the same."""
    bench = Bench()

    def make(*, requested: bool = False) -> Delivery[Any]:
        if request.param == "accepted" and not requested:
            return bench.hub.accepted()
        return bench.hub.delivered(ACCEPTED, requested=requested)

    yield make
    bench.close()


# Every way to ask

WAYS: dict[str, Callable[[Delivery[Any]], Awaitable[Any]]] = {}


def way(function: Callable[[Delivery[Any]], Awaitable[Any]]) -> Callable[[Delivery[Any]], Awaitable[Any]]:
    WAYS[function.__name__] = function
    return function


@way
async def by_await(delivery: Delivery[Any]) -> Any:
    return await delivery


@way
async def by_gather(delivery: Delivery[Any]) -> Any:
    (outcome,) = await asyncio.gather(delivery)
    return outcome


@way
async def by_wait(delivery: Delivery[Any]) -> Any:
    done, _ = await asyncio.wait({delivery})
    (only,) = done
    return only.result()


@way
async def by_wait_for(delivery: Delivery[Any]) -> Any:
    return await asyncio.wait_for(delivery, 5)


@way
async def by_as_completed(delivery: Delivery[Any]) -> Any:
    (only,) = asyncio.as_completed([delivery])
    return await only


@way
async def by_shield(delivery: Delivery[Any]) -> Any:
    return await asyncio.shield(delivery)


@way
async def by_timeout(delivery: Delivery[Any]) -> Any:
    async with asyncio.timeout(5):
        return await delivery


@way
async def by_result(delivery: Delivery[Any]) -> Any:
    return delivery.result()


@way
async def by_exception(delivery: Delivery[Any]) -> Any:
    assert delivery.exception() is None
    return delivery.result()


@way
async def by_callback(delivery: Delivery[Any]) -> Any:
    outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    delivery.add_done_callback(lambda each: outcome.set_result(each.result()))
    return await outcome


@pytest.mark.parametrize("name", WAYS)
async def test_in_its_tick_a_send_may_be_asked_in_every_way(send: Send, name: str) -> None:
    assert await WAYS[name](send()) == Receipt("accepted", certain=True)


@pytest.mark.parametrize("name", WAYS)
async def test_in_a_later_tick_it_may_not(send: Send, name: str) -> None:
    delivery = send()
    await asyncio.sleep(0)
    for _ in range(2):
        with pytest.raises(ReceiptNotRequested, match="receipt=True"):
            await WAYS[name](delivery)


@pytest.mark.parametrize("name", WAYS)
async def test_in_a_later_tick_it_may_when_the_send_asked_for_its_receipt(send: Send, name: str) -> None:
    delivery = send(requested=True)
    await asyncio.sleep(0.01)
    assert await WAYS[name](delivery) == ACCEPTED


@pytest.mark.parametrize("name", WAYS)
async def test_what_was_asked_in_its_tick_may_be_asked_again_later(send: Send, name: str) -> None:
    delivery = send()
    delivery.add_done_callback(lambda _: None)
    await asyncio.sleep(0.01)
    assert await WAYS[name](delivery) == ACCEPTED


async def test_whether_it_is_done_may_be_looked_at_at_any_time(send: Send) -> None:
    delivery = send()
    assert delivery.done()
    await asyncio.sleep(0)
    assert delivery.done()
    assert not delivery.cancelled()
    assert isinstance(delivery, asyncio.Future)


async def test_a_callback_is_called_later_and_not_inside_the_call_that_adds_it(send: Send) -> None:
    called = asyncio.Event()
    delivery = send()
    delivery.add_done_callback(lambda _: called.set())
    assert not called.is_set()
    async with asyncio.timeout(5):
        await called.wait()


async def test_outcomes_of_several_sends_are_gathered_in_their_order() -> None:
    bench = Bench()
    outcomes: list[Any] = [ACCEPTED, UNKNOWN_SESSION, Reach(1, 7), REFUSED, UNSENT]
    deliveries = [bench.hub.delivered(each, requested=False) for each in outcomes]
    assert await asyncio.gather(*deliveries) == outcomes
    bench.close()


async def test_all_accepted_sends_of_a_tick_share_one_object_and_those_of_the_next_have_another() -> None:
    bench = Bench()
    first = bench.hub.accepted()
    assert bench.hub.accepted() is first
    await asyncio.sleep(0)
    second = bench.hub.accepted()
    assert second is not first
    assert await second == ACCEPTED
    with pytest.raises(ReceiptNotRequested):
        await first
    bench.close()


@pytest.mark.parametrize(
    ("receipt", "ok"), [(ACCEPTED, True), (Receipt("acknowledged"), True), (UNKNOWN_SESSION, False), (REFUSED, False)]
)
def test_a_receipt_says_whether_the_message_got_through(receipt: Receipt, ok: bool) -> None:
    assert receipt.ok is ok
    assert receipt.certain
    assert Receipt(receipt.status) == receipt
    assert not Receipt("timed_out", certain=False).certain


# From tick to tick


@pytest.mark.parametrize("anyio_backend", ["uvloop"], indirect=True)
async def test_what_nobody_has_kept_does_not_keep_the_next_tick_open(bench: Bench) -> None:
    bench.hub.accepted()
    await asyncio.sleep(0)
    kept = bench.hub.accepted()
    await asyncio.sleep(0)
    with pytest.raises(ReceiptNotRequested):
        kept.result()
    assert bench.hub.accepted().result() == ACCEPTED


@pytest.mark.parametrize("anyio_backend", ["uvloop"], indirect=True)
async def test_what_was_asked_for_in_one_tick_does_not_stand_for_sends_of_the_next(bench: Bench) -> None:
    assert await bench.hub.accepted() == ACCEPTED
    await asyncio.sleep(0)
    kept = bench.hub.accepted()
    await asyncio.sleep(0)
    with pytest.raises(ReceiptNotRequested):
        kept.result()


@pytest.mark.parametrize("anyio_backend", ["uvloop"], indirect=True)
async def test_a_tick_is_over_for_all_that_it_has_told(bench: Bench) -> None:
    bench.hub.accepted()
    other = bench.hub.delivered(REFUSED, requested=False)
    await asyncio.sleep(0)
    with pytest.raises(ReceiptNotRequested):
        other.result()
    bench.hub.accepted()
    other = bench.hub.delivered(REFUSED, requested=False)
    assert other.result() == REFUSED

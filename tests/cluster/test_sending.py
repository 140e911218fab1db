"""Sending to one session of another server, and what its receipt says."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from primacron import Primacron, Receipt, ReceiptNotRequested, WrongThread
from primacron.cluster.memory import Shared
from primacron.errors import ForwardFailed
from primacron.ids import AccountId, SessionId
from primacron.routing.targets import SessionInfo
from primacron.routing.transit import Arriving
from primacron.sessions.send_keys import SendKeys
from primacron.testing import Client
from tests.cluster.fleet import Fleet, cluster_of, local, until
from tests.support.hearing import Hearing


class Pair:
    """Two servers, and a client of the far one: account ``ann``, session ``far``."""

    def __init__(self, near: Primacron, far: Primacron, client: Client) -> None:
        self.near = near
        self.far = far
        self.client = client
        self.failed = Hearing(near, "error::*")

    @property
    def target(self) -> Any:
        """The client's session, as the near server sends to it."""
        return self.near.session("ann", "far")

    async def heard(self, count: int) -> list[Any]:
        """Return the first arguments of the next events."""
        return [(await self.client.receive()).args[0] for _ in range(count)]

    async def heard_events(self, count: int) -> list[str]:
        """Return the names of the next events."""
        return [(await self.client.receive()).event for _ in range(count)]

    async def heard_nothing_more(self) -> None:
        """Check that nothing waits which was not received."""
        await self.target.emit("last", "of all")
        assert await self.heard(1) == ["of all"]
        assert self.client.is_quiet


@pytest.fixture
async def pair(fleet: Fleet) -> Pair:
    near, far = await fleet.started(2)
    return Pair(near, far, await fleet.join(far, "ann", "far"))


# Receipts


async def test_an_event_reaches_a_session_of_another_server(pair: Pair) -> None:
    assert await pair.target.emit("hello", 1, {"two": [3]}) == Receipt("accepted", certain=True)
    received = await pair.client.receive()
    assert (received.event, received.args) == ("hello", (1, {"two": [3]}))
    assert pair.failed.is_empty


async def test_a_handler_of_one_server_answers_a_session_of_another(fleet: Fleet) -> None:
    near, far = fleet.new(), fleet.new()

    @near.event("greet")
    async def greet(session: Any, name: str) -> str:
        return (await near.session("bob", name).emit("greeting", session.account)).status

    await fleet.start(near, far)
    ann, bob = await fleet.join(near, "ann"), await fleet.join(far, "bob")
    assert await ann.call("greet", "bob") == "accepted"
    assert (await bob.receive()).args == ("ann",)


@pytest.mark.parametrize(("account", "session"), [("ann", "nobody"), ("nobody", "far"), ("nobody", "nobody")])
async def test_a_session_that_is_nowhere_is_unknown_with_certainty(pair: Pair, account: str, session: str) -> None:
    assert await pair.near.session(account, session).emit("x") == Receipt("unknown_session", certain=True)
    assert pair.failed.is_empty


async def test_a_session_that_has_ended_is_unknown(pair: Pair) -> None:
    assert (await pair.target.emit("x")).ok
    ended = Hearing(pair.far, "disconnection")
    await pair.client.close()
    await ended.next()
    await until(lambda: not pair.far.node.hub.sessions, "the end")
    assert await pair.target.emit("x") == Receipt("unknown_session", certain=True)


async def test_nobody_is_called_unknown_while_the_data_of_the_backend_is_new(fleet: Fleet) -> None:
    near, far = await fleet.started(2)
    await fleet.join(far, "ann", "far")
    await fleet.age(-66)
    assert await near.session("ann", "nobody").emit("x") == Receipt("unsent", certain=True)
    assert await near.session("ann", "far").emit("x") == Receipt("accepted")
    await fleet.age(66)
    assert await near.session("ann", "nobody").emit("x") == Receipt("unknown_session")


async def test_what_the_far_client_cannot_get_is_refused(fleet: Fleet) -> None:
    near, far = fleet.new(), fleet.new(dialect="raw")
    await fleet.start(near, far)
    client = await (await fleet.serve(far)).websocket("account=ann&session=far")
    await client.receive()
    refused = Receipt("refused", certain=True)
    assert await near.session("ann", "far").emit("hello", "a raw client has no such event") == refused
    assert await near.session("ann", "far").emit("message", {"not": "text"}) == refused
    assert await near.session("ann", "far").emit("message", "text") == Receipt("accepted")
    assert await client.receive() == "4text"


async def test_more_than_can_travel_is_refused(pair: Pair) -> None:
    assert await pair.target.emit("x", "." * 64_000_001) == Receipt("refused", certain=True)
    await pair.heard_nothing_more()


async def test_a_server_that_nobody_hears_any_more_is_unsent(pair: Pair) -> None:
    assert (await pair.target.emit("x")).ok
    await cluster_of(pair.far).bus.leave()
    assert await pair.target.emit("x") == Receipt("unsent", certain=True)
    assert pair.failed.is_empty
    assert not len(cluster_of(pair.near).requests)


@pytest.mark.parametrize("backend", ["memory"])
async def test_a_receipt_that_is_lost_is_timed_out_and_uncertain(fleet: Fleet) -> None:
    near, far = await fleet.started(2, receipt_timeout=0.2)
    client = await fleet.join(far, "ann", "far")
    shared: Shared = fleet.given()
    shared.passes = lambda destination, body: destination != near.node.id
    assert await near.session("ann", "far").emit("x") == Receipt("timed_out", certain=False)
    assert (await client.receive()).event == "x"


@pytest.mark.parametrize("backend", ["memory"])
async def test_nobody_says_of_what_has_left_when_a_server_ends_that_it_did_not_arrive(fleet: Fleet) -> None:
    near, far = await fleet.started(2)
    client = await fleet.join(far, "ann", "far")
    target = near.session("ann", "far")
    assert (await target.emit("x")).ok
    shared: Shared = fleet.given()
    shared.passes = lambda destination, body: destination != near.node.id
    left = target.emit("left", receipt=True)
    assert [(await client.receive()).event for _ in range(2)] == ["x", "left"]
    await near.destroy()
    assert await left == Receipt("timed_out", certain=False)


# Who is not told


async def test_a_session_that_is_left_out_gets_nothing(pair: Pair) -> None:
    for left_out in (pair.target, local(pair.far, "ann", "far"), SessionInfo("ann", "far", pair.far.node.id)):  # type: ignore[arg-type]
        assert await pair.target.emit("x", except_=left_out) == Receipt("unsent", certain=True)
    await pair.heard_nothing_more()


async def test_a_volatile_event_is_dropped_for_a_far_client_that_takes_nothing(fleet: Fleet) -> None:
    near, far = await fleet.started(2)
    target = near.session("ann", "far")
    polling = await (await fleet.serve(far)).poll_in("account=ann&session=far")
    assert await target.emit("kept", volatile=True) == Receipt("accepted")
    assert await target.emit("dropped", volatile=True) == Receipt("unsent", certain=True)
    assert await target.emit("kept too") == Receipt("accepted")
    body = (await polling.poll()).text
    assert '"kept"' in body
    assert '"kept too"' in body
    assert "dropped" not in body


# Keys


async def test_a_key_makes_a_send_idempotent_from_any_server(fleet: Fleet) -> None:
    near, far, third = await fleet.started(3)
    client = await fleet.join(far, "ann", "far")
    accepted = Receipt("accepted", certain=True)
    for number, server in enumerate((near, third, far, near)):
        assert await server.session("ann", "far").emit("pay", number, key="order 7") == accepted
    assert await local(far, "ann", "far").emit("pay", "by itself", key="order 7") == accepted
    assert await near.session("ann", "far").emit("pay", "other", key="order 8") == accepted
    assert [(await client.receive()).args for _ in range(2)] == [(0,), ("other",)]
    assert client.is_quiet


async def test_a_key_is_forgotten_after_a_minute(pair: Pair) -> None:
    await pair.target.emit("pay", 1, key="order")
    keys, now = local(pair.far, "ann", "far").demand(SendKeys).kept, asyncio.get_running_loop().time()
    receipt, until_then = keys["order"]
    assert 55 < until_then - now <= 60
    keys["order"] = receipt, now
    await pair.target.emit("pay", 2, key="order")
    assert await pair.heard(2) == [1, 2]


# Order


async def test_a_thousand_events_arrive_in_their_order_and_the_first_ones_wait_for_a_lookup(pair: Pair) -> None:
    for number in range(1_000):
        pair.target.emit("n", number)
        if number % 7 == 6:
            await asyncio.sleep(0)
    assert await pair.heard(1_000) == [*range(1_000)]
    assert pair.failed.is_empty
    await pair.heard_nothing_more()


async def test_events_of_all_sizes_arrive_in_their_order(pair: Pair) -> None:
    sizes = [(number * 7919) % 3_000 for number in range(300)]
    for number in (10, 100, 101, 250):
        sizes[number] = 300_000 + number
    for number, size in enumerate(sizes):
        pair.target.emit("n", number, "x" * size)
        if number % 5 == 0:
            await asyncio.sleep(0)
    received = [(await pair.client.receive()).args for _ in sizes]
    assert [number for number, _ in received] == [*range(300)]
    assert [len(text) for _, text in received] == sizes


async def test_two_servers_that_send_to_each_others_sessions_keep_both_orders(fleet: Fleet) -> None:
    servers = await fleet.started(2)
    clients = [await fleet.join(server, "ann", name) for server, name in zip(servers, "ab", strict=True)]
    for number in range(500):
        servers[0].session("ann", "b").emit("n", number)
        servers[1].session("ann", "a").emit("n", number)
        if number % 3 == 0:
            await asyncio.sleep(0)
    for client in clients:
        assert [(await client.receive()).args[0] for _ in range(500)] == [*range(500)]


async def test_what_waits_for_a_session_in_transit_comes_first_when_it_opens_here_anew(fleet: Fleet) -> None:
    near, far = await fleet.started(2)
    name = (AccountId("ann"), SessionId("a"))
    transits = near.node.admissions.transits
    transit = transits[name] = Arriving(cluster_of(far).node)
    waiting = [near.session("ann", "a").emit("n", number, receipt=True) for number in range(3)]
    client = await fleet.join(near, "ann", "a")
    near.session("ann", "a").emit("n", 3)
    del transits[name]
    transit.release(None)
    assert [(await client.receive()).args[0] for _ in range(4)] == [0, 1, 2, 3]
    assert [(await each).status for each in waiting] == ["accepted"] * 3


async def test_local_and_far_sessions_of_an_account_keep_their_orders_while_one_is_looked_up(fleet: Fleet) -> None:
    near, far = await fleet.started(2)
    clients = [await fleet.join(near, "ann", "near"), await fleet.join(far, "ann", "far")]
    for number in range(200):
        for name in ("far", "near"):
            near.session("ann", name).emit("n", number)
        if number % 9 == 0:
            await asyncio.sleep(0)
    for client in clients:
        assert [(await client.receive()).args[0] for _ in range(200)] == [*range(200)]


@pytest.mark.parametrize("backend", ["memory"])
async def test_a_local_session_gets_what_waited_for_the_lookup_of_another_one_when_the_link_is_lost(
    fleet: Fleet,
) -> None:
    near, far = await fleet.started(2)
    client = await fleet.join(near, "ann", "near")
    await fleet.join(far, "ann", "far")
    sends = [near.session("ann", "far").emit("x"), near.session("ann", "near").emit("y")]
    fleet.given().away = True
    sends.append(near.session("ann", "near").emit("z"))
    assert [receipt.status for receipt in await asyncio.gather(*sends)] == ["unsent", "accepted", "accepted"]
    assert [(await client.receive()).event for _ in range(2)] == ["y", "z"]


async def test_three_megabytes_travel_whole_and_in_their_place(fleet: Fleet) -> None:
    near, far = await fleet.started(2)
    client = await (await fleet.serve(far)).connect("account=ann&session=far")
    target = near.session("ann", "far")
    for number in range(3):
        target.emit("before", number)
        large = target.emit("large", str(number) * 3_000_000)
        assert await large == Receipt("accepted")
        assert (await client.receive())["args"] == [number]
        assert (await client.receive())["args"] == [str(number) * 3_000_000]


# Receipts that nobody, or somebody, wants


async def test_a_far_send_that_is_first_looked_at_in_a_later_tick_has_no_receipt(pair: Pair) -> None:
    forgotten, asked = pair.target.emit("x"), pair.target.emit("x", receipt=True)
    assert await asked == Receipt("accepted")
    for touch in (forgotten.result, forgotten.exception, lambda: forgotten.add_done_callback(print)):
        with pytest.raises(ReceiptNotRequested):
            touch()
    with pytest.raises(ReceiptNotRequested):
        await forgotten
    assert await pair.heard_events(2) == ["x", "x"]


async def test_far_sends_can_be_gathered_waited_for_and_called_back(pair: Pair) -> None:
    receipts = await asyncio.gather(pair.target.emit("a"), pair.near.session("ann", "nobody").emit("b"))
    assert [each.status for each in receipts] == ["accepted", "unknown_session"]
    assert await asyncio.wait_for(pair.target.emit("c"), 5) == Receipt("accepted")
    done, _ = await asyncio.wait({pair.target.emit("d")})
    assert [each.result() for each in done] == [Receipt("accepted")]


@pytest.mark.parametrize("name", ["far", "nobody"])
async def test_a_send_outside_of_any_task_calls_back_and_raises_no_error(pair: Pair, name: str) -> None:
    loop = asyncio.get_running_loop()
    called: asyncio.Future[str] = loop.create_future()

    def send() -> None:
        pair.near.session("ann", name).emit("x").add_done_callback(lambda done: called.set_result(done.result().status))

    loop.call_soon(send)
    async with asyncio.timeout(5):
        assert await called == ("accepted" if name == "far" else "unknown_session")
    await asyncio.sleep(0)
    assert pair.failed.is_empty


async def test_a_failed_send_that_nobody_awaits_is_one_error(pair: Pair) -> None:
    pair.near.session("ann", "nobody").emit("x")
    error, context = await pair.failed.next_error()
    assert isinstance(error, ForwardFailed)
    assert (error.status, context.key) == ("unknown_session", ("ann", "nobody"))
    assert (await pair.target.emit("y")).ok
    assert pair.failed.is_empty
    assert pair.near.metrics["error::forward"] == 1


async def test_sends_from_another_thread_are_refused(pair: Pair) -> None:
    raised: list[BaseException] = []

    def send() -> None:
        for attempt in (
            lambda: pair.target.emit("x"),
            lambda: pair.near.forward("ann", "far", "x"),
            lambda: pair.near.broadcast("x"),
            pair.target.disconnect,
        ):
            try:
                attempt()
            except WrongThread as error:
                raised.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    await asyncio.to_thread(thread.join)
    assert len(raised) == 4
    assert "from_thread" in str(raised[0])
    await pair.heard_nothing_more()


# The original's names


async def test_forward_and_find_are_thin_forms(pair: Pair) -> None:
    assert await pair.near.forward("ann", "far", "text") == Receipt("accepted")
    assert await pair.near.forward("ann", "far", {"event": "own", "args": [1]}) == Receipt("accepted")
    assert await pair.near.forward("ann", "far", {"no": "event"}) == Receipt("accepted")
    received = [await pair.client.receive() for _ in range(3)]
    assert [(each.event, each.args) for each in received] == [
        ("message", ("text",)),
        ("own", (1,)),
        ("message", ({"no": "event"},)),
    ]
    assert await pair.near.forward("ann", "nobody", "text") == Receipt("unknown_session")
    assert await pair.near.find("ann", "far") == SessionInfo("ann", "far", pair.far.node.id)  # type: ignore[arg-type]
    assert await pair.near.find("ann", "nobody") is None


# Other things than sending


async def test_disconnect_closes_a_far_session_with_the_reason(pair: Pair) -> None:
    ended = Hearing(pair.far, "disconnection")
    session = local(pair.far, "ann", "far")
    assert await pair.target.disconnect("closing time") == Receipt("accepted")
    assert await pair.client.closed() == "closing time"
    assert await ended.next() == (session, "closing time")
    assert ended.is_empty
    assert await pair.target.disconnect() == Receipt("unknown_session")


async def test_a_session_that_came_back_elsewhere_is_reached_at_once(fleet: Fleet) -> None:
    near, far, third = await fleet.started(3)
    target = near.session("ann", "far")
    first = await fleet.join(far, "ann", "far")
    assert (await target.emit("x")).ok
    await first.close()
    await until(lambda: not far.node.hub.sessions, "the end")
    second = await fleet.join(third, "ann", "far")
    assert await target.emit("y") == Receipt("accepted")
    assert (await second.receive()).event == "y"
    assert await target.disconnect("done") == Receipt("accepted")
    assert await second.closed() == "done"


async def test_a_session_that_left_with_its_server_and_came_back_is_reached_at_once(fleet: Fleet) -> None:
    near, far, third = await fleet.started(3)
    target, name, locations = (
        near.session("ann", "far"),
        (AccountId("ann"), SessionId("far")),
        cluster_of(near).locations,
    )
    await fleet.join(far, *name)
    assert (await target.emit("x")).ok
    now = asyncio.get_running_loop().time()
    remembered = locations.get(name, now)
    assert remembered is not None
    await far.destroy()
    client = await fleet.join(third, *name)
    calls = asyncio.create_task(answer_all(client, "yes"))
    for send, outcome in (
        (lambda: target.emit("x"), Receipt("accepted")),
        (lambda: target.call("ask"), "yes"),
        (lambda: target.disconnect("done"), Receipt("accepted")),
    ):
        locations.put(name, remembered, now)
        assert await send() == outcome
        assert not len(cluster_of(near).requests), "the first try is not waited for any more"
    assert await client.closed() == "done"
    calls.cancel()


async def answer_all(client: Client, answer: Any) -> None:
    """Answer every call with the same."""
    while True:
        received = await client.receive()
        if received.id is not None:
            await client.answer(received, answer)


async def test_a_disconnect_or_a_call_does_not_overtake_what_was_sent_before(pair: Pair) -> None:
    for number in range(10):
        pair.target.emit("n", number)
    call = asyncio.create_task(pair.target.call("ask"))
    await asyncio.sleep(0)
    assert await pair.heard(10) == [*range(10)]
    asked = await pair.client.receive()
    await pair.client.answer(asked, "yes")
    assert await call == "yes"
    cluster_of(pair.near).locations.drop((AccountId("ann"), SessionId("far")))
    for number in range(10):
        pair.target.emit("n", number)
    pair.target.disconnect("bye")
    assert await pair.heard(10) == [*range(10)]
    assert await pair.client.closed() == "bye"

"""Ids of messages that are none, and answers to what nobody asked, or by somebody else."""

from __future__ import annotations

import asyncio

import pytest

from primacron.errors import CallRefused, CallTimedOut
from primacron.sessions.calls import Calls
from tests.hostile.conftest import Attack
from tests.hostile.test_messages import assert_goes_on, begin

BAD_IDS = ["-1", "-0.5", "1.0", "1e2", "1e308", "9007199254740992", "9" * 100, "9" * 5000, '"1"', "true", "null", "[1]"]


async def test_an_id_that_is_none_makes_a_message_invalid(kind: str, attack: Attack) -> None:
    arena, client = await begin(attack)
    for number in (*BAD_IDS, "{}"):
        for field in ("id", "ack"):
            await client.socket.send(f'4{{"event":"text","args":["x"],"{field}":{number}}}')
            await arena.error("error::invalid")
            await assert_goes_on(arena, client, (field, number[:20]))


async def test_ids_at_the_ends_of_their_range_come_back(kind: str, attack: Attack) -> None:
    arena, client = await begin(attack)
    for number in (0, 1, 1, 2**53 - 1):
        await client.emit("text", "x", id=number)
        assert await client.receive() == {"ack": number, "args": ["x"]}
    await assert_goes_on(arena, client)


async def test_an_answer_that_nobody_waits_for_is_counted_and_dropped(kind: str, attack: Attack) -> None:
    arena, client = await begin(attack)
    numbers = (0, 1, 0, 2**53 - 1)
    for number in numbers:
        await client.send({"ack": number, "args": ["x"]})
        await client.send({"ack": number, "error": {"type": "x", "message": "y"}})
        await client.send({"ack": number, "event": "text", "args": ["x"], "id": 5})  # an answer in the first place
    await assert_goes_on(arena, client)
    assert arena.server.metrics["answers_unknown"] == 3 * len(numbers)


async def test_an_answer_counts_for_the_session_that_was_called_and_once(kind: str, attack: Attack) -> None:
    arena, client = await begin(attack)
    ann = await arena.client.connect("account=ann")
    calling = asyncio.create_task(arena.session("ann").call("question", timeout=5))
    question = await ann.receive()
    for number in range(5):
        await client.send({"ack": question["id"] + number, "args": ["forged"]})
        await client.send({"ack": question["id"] + number, "error": {"type": "forged"}})
    await assert_goes_on(arena, client)
    assert arena.server.metrics["answers_unknown"] == 10
    assert not calling.done()
    for answer in ("true", "late"):
        await ann.send({"ack": question["id"], "args": [answer]})
    await assert_goes_on(arena, ann)
    assert await calling == "true"
    assert arena.server.metrics["answers_unknown"] == 11


BAD_ANSWERS = [
    ('"args":5', "error::invalid"),
    ('"args":{}', "error::invalid"),
    ('"error":5', "error::invalid"),
    ('"error":null', "error::invalid"),
    ('"error":[]', "error::invalid"),
    ('"error":{"type":5}', "error::invalid"),
    ('"error":{"message":[]}', "error::invalid"),
    ('"args":[NaN]', "error::json"),
    ('"args":[1e999]', "error::invalid"),
    (f'"args":{"[" * 90_000}', "error::invalid"),
]


async def test_an_answer_that_is_none_is_refused_and_the_call_waits_on(kind: str, attack: Attack) -> None:
    arena, client = await begin(attack)
    calling = asyncio.create_task(arena.session("mallory").call("question", timeout=5))
    number = (await client.receive())["id"]
    for answer, event in BAD_ANSWERS:
        await client.socket.send(f'4{{"ack":{number},{answer}}}')
        await arena.error(event)
        await assert_goes_on(arena, client, answer[:50])
        assert not calling.done()
    error = {"type": "t" * 1000, "message": "\u2028\x00" * 1000, "path": "$", "__class__": "KeyboardInterrupt"}
    await client.send({"ack": number, "error": error})
    with pytest.raises(CallRefused) as raised:
        await calling
    assert raised.value.type == error["type"]


async def test_a_client_that_answers_no_call_lets_each_run_out_and_leaves_nothing(kind: str, attack: Attack) -> None:
    arena, client = await begin(attack)
    session = arena.session("mallory")
    calls = [session.call("question", number, timeout=0.1) for number in range(200)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(outcome, CallTimedOut) for outcome in outcomes)
    assert not session.demand(Calls).waiting
    for number in range(200):
        assert (await client.receive())["id"] == number
        await client.send({"ack": number, "args": []})
    await assert_goes_on(arena, client)
    assert arena.server.metrics["answers_unknown"] == 200

"""Clients that ask for channels as no honest client does: they are refused or paced, counted, and cost nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import sys
import time
from typing import Any, Final

import msgspec
import pytest

from primacron import Primacron
from primacron.features.channels import Channels, entrance, histories, local
from tests.channels.talkers import ASKING, Talker, joined
from tests.hostile.arena import STANDALONE, Arena, until
from tests.hostile.conftest import Attack
from tests.support.engine import Events

#: What a session may be in.
LIMIT: Final = 128
#: Bytes of replays that a session gets in a second, and at once after a pause; a page may go beyond.
RATE: Final = 262_144
AT_ONCE: Final = 65_536 + 262_144 + 100 * 1_100

MAX: Final = 2**53 - 1


@pytest.fixture(autouse=True)
def nothing_lingers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the server end sooner what it keeps for a while."""
    monkeypatch.setattr(local, "LINGER", 0.2)
    monkeypatch.setattr(entrance, "LINGER", 0.2)
    monkeypatch.setattr(histories, "COMPARE_EVERY", 0.2)


async def ask(client: Events, number: int, envelope: dict[str, Any]) -> Any:
    """Ask for something and return the answer, whatever else comes before."""
    await client.send({**envelope, "id": number})
    while (message := await client.receive()).get("ack") != number:
        pass
    return message


def open_to_all(**options: Any) -> Primacron:
    """Return a server whose channels everybody may join."""
    server = Primacron(receipt_timeout=0.5, **options)
    server.channels("lot:{name}")
    server.channels("news:{name}", history=100, keep=600)
    return server


def blocks() -> int:
    """Return how many blocks of memory are in use."""
    gc.collect()
    return sys.getallocatedblocks()


# Many


@STANDALONE
async def test_ten_thousand_channels_on_a_node_are_served_and_leave_nothing(attack: Attack, kind: str) -> None:
    server = open_to_all()
    arena = await attack(server)
    used = []
    for _ in range(3):  # the first leaves what is kept for good
        await crowd(arena)
        used.append(blocks())
    # What the clients themselves leave in this process is less than half a block for each channel.
    assert min(used[1] - used[0], used[2] - used[1]) < 5_000


async def crowd(arena: Arena) -> None:
    """Let clients join ten thousand channels, each its own, and leave."""
    server, count = arena.server, 125
    clients = [await arena.client.connect(f"account=mallory{number}") for number in range(80)]

    async def join_all(number: int, client: Events) -> None:
        for channel in range(count):
            await client.send({"join": f"lot:{number}-{channel}", "id": channel})
        for channel in range(count):
            assert (await client.receive())["ack"] == channel

    await asyncio.gather(*(join_all(number, client) for number, client in enumerate(clients)))
    assert sum(len(session.channels) for session in server.node.hub.sessions) == 10_000
    for number in (0, 40, 79):
        assert (await server.channel(f"lot:{number}-7").emit("x")).sessions == 1
        assert (await clients[number].receive())["channel"] == f"lot:{number}-7"
    for client in clients:
        await client.close()
    await until(lambda: len(server.node.hub.sessions) == 1, "the end of the sessions")
    names = [f"lot:{number}-{channel}" for number in range(80) for channel in range(count)]
    channels = server.node.feature(Channels).local
    await until(lambda: not any(name in channels for name in names), "the end of the channels")


async def test_a_session_is_in_128_channels_and_in_no_129th(attack: Attack) -> None:
    server = open_to_all()
    arena = await attack(server)
    client = await arena.client.connect("account=mallory")
    for number in range(LIMIT):
        assert "error" not in await ask(client, number, {"join": f"lot:{number}"})
    for number in range(LIMIT, LIMIT + 5):
        answer = await ask(client, number, {"join": f"lot:{number}"})
        assert answer["error"]["type"] == "limit"
        await arena.error("error::limit")
    session = arena.session("mallory")
    assert session.channels == {f"lot:{number}" for number in range(LIMIT)}
    assert "error" not in await ask(client, 500, {"join": "lot:0"})
    await ask(client, 501, {"leave": "lot:0"})
    assert "error" not in await ask(client, 502, {"join": f"lot:{LIMIT}"})
    assert len(session.channels) == LIMIT


# Names

#: Every character of one and two bytes, and what is odd among the others; as text of JSON.
CHARACTERS: Final = [
    *(json.dumps(chr(code)) for code in range(0x800)),
    *(json.dumps(each) for each in "\u2028\u2029\ufeff\uffff\ufffd\U0001f600\U0010ffff"),
    *(json.dumps(each, ensure_ascii=False) for each in "\x7f\x85\u2028\ufeff\ue000\U0001f600"),
    *(rf'"\u{code:04x}"' for code in (0xD800, 0xDBFF, 0xDC00, 0xDFFF)),
]
ODD: Final = ["__class__", "../..", "%00", "{name}", "*", "?[a-z]", "{tag}:x", "lot:7", "a:b", " ", "'\"\\", "\\u0000"]


async def test_every_character_in_a_name_is_taken_as_it_is_or_refused(attack: Attack) -> None:
    server = open_to_all(bad_messages=10_000)
    arena = await attack(server)
    client = await arena.client.connect("account=mallory")
    taken = 0
    for number, text in enumerate([*CHARACTERS, *map(json.dumps, ODD)]):
        await client.socket.send(f'4{{"join":"lot:x{text[1:-1]}","id":{number}}}')
        answer = await client.receive()
        assert answer["ack"] == number, text
        if "error" in answer:
            assert answer["error"]["type"] in {"validation", "invalid", "refused"}, (text, answer)
            continue
        taken += 1
        [joined] = answer["args"]
        assert joined["channel"] == "lot:x" + json.loads(text)
        assert (await server.channel(joined["channel"]).emit("x")).sessions == 1
        assert (await client.receive())["channel"] == joined["channel"]
        await ask(client, 10_000 + number, {"leave": joined["channel"]})
    assert taken > 1_900
    arena.errors.clear()


async def test_bytes_that_are_no_text_are_no_name(attack: Attack) -> None:
    arena = await attack(open_to_all(bad_messages=1_000))
    client = await Talker.connect(arena.client, "mallory", ASKING["msgpack"])
    session = arena.session("mallory")
    head = msgspec.msgpack.encode({"id": 1, "join": "lot:x"})
    for byte in range(0x80, 0x100):
        await client.socket.send(head[:-1] + bytes([byte]))
        assert (await client.hear())["error"]["type"] == "invalid"
        await arena.error("error::invalid")
    assert await client.join("lot:y") == joined("lot:y")
    assert session.channels == {"lot:y"}


# Positions

FALSE: Final[dict[str, Any]] = {
    "another epoch": {"epoch": "elsewhere", "offset": 1},
    "no epoch": {"epoch": "", "offset": 1},
    "a long epoch": {"epoch": "x" * 100_000, "offset": 1},
    "an odd epoch": {"epoch": "\x00\n {}*\u2028", "offset": 1},
    "far ahead": {"epoch": "true", "offset": MAX},
    "a little ahead": {"epoch": "true", "offset": 6},
}
IMPOSSIBLE: Final[dict[str, str]] = {
    "negative": '{"epoch": "e", "offset": -1}',
    "too large": '{"epoch": "e", "offset": 9007199254740992}',
    "larger than any integer": '{"epoch": "e", "offset": 18446744073709551616}',
    "of a thousand digits": '{"epoch": "e", "offset": ' + "9" * 1_000 + "}",
    "a fraction": '{"epoch": "e", "offset": 1.5}',
    "beyond all floats": '{"epoch": "e", "offset": 1e999}',
    "text": '{"epoch": "e", "offset": "1"}',
    "no number": '{"epoch": 7, "offset": 1}',
    "without offset": '{"epoch": "e"}',
    "nothing": "null",
    "an array": "[1, 2]",
}


@pytest.fixture
async def kept(attack: Attack) -> tuple[Arena, str]:
    """Return an arena whose channel has five messages, and their epoch."""
    server = open_to_all()
    arena = await attack(server)
    for number in range(5):
        reach = await server.channel("news:x").emit("x", number)
    assert reach.position is not None
    return arena, reach.position.epoch


@pytest.mark.parametrize("what", FALSE)
async def test_a_position_that_nobody_was_told_gets_a_gap_and_no_history(kept: tuple[Arena, str], what: str) -> None:
    arena, epoch = kept
    since = FALSE[what]
    client = await arena.client.connect("account=mallory")
    for number in range(50):
        given = {**since, "epoch": epoch if since["epoch"] == "true" else since["epoch"]}
        await client.send({"join": "news:x", "id": number, "since": given})
        answer = await client.receive()
        assert answer["ack"] == number
        assert answer["args"] == [{"channel": "news:x", "epoch": epoch, "offset": 5, "recovered": False}]
        assert await client.receive() == {"channel": "news:x", "gap": {"epoch": epoch, "from": 6, "to": None}}
    await arena.server.channel("news:x").emit("x", 5)
    assert await client.receive() == {"event": "x", "args": [5], "channel": "news:x", "offset": 6}


@pytest.mark.parametrize("what", IMPOSSIBLE)
async def test_a_position_that_is_none_is_refused(kept: tuple[Arena, str], what: str) -> None:
    arena, _ = kept
    client = await arena.client.connect("account=mallory")
    await client.socket.send('4{"join":"news:x","id":1,"since":' + IMPOSSIBLE[what] + "}")
    answer = await client.receive()
    assert answer["ack"] == 1
    assert answer["error"]["type"] == "validation"
    await arena.error("error::validation")
    assert arena.session("mallory").channels == set()
    assert "error" not in await ask(client, 2, {"join": "news:x"})


async def test_a_position_that_cannot_be_decoded_gets_no_answer(kept: tuple[Arena, str]) -> None:
    arena, _ = kept
    client = await arena.client.connect("account=mallory")
    await client.socket.send('4{"join":"news:x","id":1,"since":' + "[" * 10_000 + "]" * 10_000 + "}")
    await arena.error("error::invalid")
    assert "error" not in await ask(client, 2, {"join": "news:x"})


# As fast as it can


@STANDALONE
async def test_who_asks_for_history_a_thousand_times_a_second_gets_it_at_its_pace(attack: Attack, kind: str) -> None:
    server = open_to_all()
    arena = await attack(server)
    for number in range(100):
        await server.channel("news:x").emit("x", number, "x" * 1_000)
    client = await arena.client.connect("account=mallory")
    assert "error" not in await ask(client, 0, {"join": "news:x"})
    before = blocks()
    began = time.monotonic()
    for number in range(1, 3_001):
        await client.send({"join": "news:x", "id": number, "last": 100})
        if number % 100 == 0:
            await asyncio.sleep(0)
    received = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(asyncio.get_running_loop().time() + 3):
            while True:
                received += len((await client.socket.receive_frame()).payload)
    seconds = time.monotonic() - began
    assert 0 < received < seconds * RATE + AT_ONCE
    assert blocks() - before < 100_000
    await client.close()
    await until(lambda: len(server.node.hub.sessions) == 1, "the end of the session")

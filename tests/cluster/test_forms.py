"""What is sent takes the form of the far client: its dialect, its protocol, its transport."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import decimal
import json
import uuid
from typing import Any

import msgspec
import pytest

from primacron import Primacron, Receipt
from tests.cluster.fleet import Fleet
from tests.support.websocket import WebSocket

BACKENDS = ("memory", "redis")


class Item(msgspec.Struct):
    """What an application may send."""

    name: str
    price: decimal.Decimal


class Ends:
    """A client of each of two servers, of the same kind."""

    def __init__(self, servers: list[Primacron], sockets: list[WebSocket]) -> None:
        self.near = servers[0]
        self.sockets = sockets

    async def both(self) -> tuple[Any, Any]:
        """Return what the local client got, and what the far one got."""
        near, far = [await socket.receive() for socket in self.sockets]
        return near, far


async def connect(fleet: Fleet, query: str, **options: Any) -> Ends:
    servers = await fleet.started(2, **options)
    sockets = []
    for server, name in zip(servers, ("near", "far"), strict=True):
        socket = await (await fleet.serve(server)).websocket(f"account=ann&session={name}{query}")
        assert str(await socket.receive()).startswith("0{")
        sockets.append(socket)
    return Ends(servers, sockets)


VALUES: list[Any] = [
    None,
    True,
    0,
    -(2**63),
    2**64 - 1,
    1.5,
    "text é ✓ \x00",
    [],
    {},
    {"a": [{"b": None}]},
    (1, (2,)),
    b"\x00\xff",
    uuid.UUID(int=7),
    decimal.Decimal("1.10"),
    dt.date(2024, 5, 6),
    dt.datetime(2024, 5, 6, 7, 8, 9),
    dt.datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=dt.UTC),
    dt.timedelta(seconds=90),
    Item("lamp", decimal.Decimal("9.99")),
]


@pytest.mark.parametrize("query", ["", "&format=msgpack", "&_primuscb=x"])
async def test_values_look_the_same_to_local_and_far_clients(fleet: Fleet, query: str) -> None:
    ends = await connect(fleet, query)
    for value in VALUES:
        assert (await ends.near.account("ann").emit("value", value, {"in": [value]})).sessions == 2
        near, far = await ends.both()
        assert near == far, value


async def test_moments_are_the_same_for_local_and_far_clients(fleet: Fleet) -> None:
    ends = await connect(fleet, "")
    zone = dt.timezone(dt.timedelta(hours=2))
    moment = dt.datetime(2024, 5, 6, 7, 8, 9, tzinfo=zone)
    ends.near.account("ann").emit("value", moment)
    near, far = [json.loads(text[1:])["args"][0] for text in await ends.both()]
    assert dt.datetime.fromisoformat(near) == dt.datetime.fromisoformat(far) == moment


async def test_bytes_are_bytes_for_msgpack_clients_and_base64_for_others(fleet: Fleet) -> None:
    near, far = await fleet.started(2)
    front = await fleet.serve(far)
    packed, plain = [await front.websocket(f"account=ann&session={name}&format={name}") for name in ("msgpack", "json")]
    await packed.receive()
    await plain.receive()
    assert (await near.account("ann").emit("blob", b"\x00\xff")).sessions == 2
    assert msgspec.msgpack.decode(bytes(await packed.receive())) == {"event": "blob", "args": [b"\x00\xff"]}  # type: ignore[arg-type]
    assert json.loads(str(await plain.receive())[1:]) == {
        "event": "blob",
        "args": [base64.b64encode(b"\x00\xff").decode()],
    }


async def test_a_primus_client_gets_packets_of_primus(fleet: Fleet) -> None:
    ends = await connect(fleet, "&_primuscb=x")
    ends.near.account("ann").emit("greet", "ann", 1)
    assert await ends.both() == ('4{"emit":["greet","ann",1]}',) * 2
    for message in ({"event": "own"}, "text", ["\u2028"]):
        assert (await ends.near.broadcast(message)).sessions == 2
    assert await ends.both() == ('4{"event":"own"}',) * 2
    assert await ends.both() == ('4"text"',) * 2
    assert await ends.both() == ('4["\\u2028"]',) * 2


async def test_a_raw_client_gets_messages_as_they_are(fleet: Fleet) -> None:
    ends = await connect(fleet, "", dialect="raw")
    for sent, received in (("text", "4text"), (b"\x00\xff", b"\x00\xff")):
        assert (await ends.near.everyone.emit("message", sent)).sessions == 2
        assert await ends.both() == (received, received)
    assert (await ends.near.broadcast({"any": ["JSON"]})).sessions == 2
    assert await ends.both() == ('4{"any":["JSON"]}',) * 2
    for refused in (("hello", "text"), ("message", 1), ("message", "two", "texts")):
        with pytest.raises((TypeError, ValueError)):
            ends.near.everyone.emit(*refused)
        with pytest.raises((TypeError, ValueError)):
            ends.near.session("ann", "far").emit(*refused)
    ends.near.everyone.emit("message", "last")
    assert await ends.both() == ("4last", "4last")


@pytest.mark.parametrize(("query", "text"), [("", b"\x04\x00\xff"), ("&b64=1", "b4AP8=")])
async def test_clients_of_protocol_3_get_its_packets(fleet: Fleet, query: str, text: str | bytes) -> None:
    near, far = await fleet.started(2, dialect="raw")
    front = await fleet.serve(far)
    socket = await front.websocket_to(f"/stream/?EIO=3&transport=websocket&account=ann&session=far{query}")
    await socket.receive()
    assert await near.session("ann", "far").emit("message", b"\x00\xff") == Receipt("accepted")
    assert await socket.receive() == text


async def test_a_client_on_polling_gets_what_comes_from_afar(fleet: Fleet) -> None:
    near, far = await fleet.started(2)
    polling = await (await fleet.serve(far)).poll_in("account=ann&session=far")
    poll = asyncio.create_task(polling.poll())
    async with asyncio.timeout(5):
        while not far.node.hub.connections[polling.sid].transport.ready:  # type: ignore[index]
            await asyncio.sleep(0.002)
    for number in range(3):
        near.session("ann", "far").emit("n", number)
    packets = (await poll).text.split("\x1e")
    while len(packets) < 3:
        packets += (await polling.poll()).text.split("\x1e")
    assert [json.loads(packet[1:])["args"] for packet in packets] == [[0], [1], [2]]


@pytest.mark.parametrize("target", ["session", "account", "everyone"])
async def test_numbers_over_64_bits_are_refused_in_clear_words(fleet: Fleet, target: str) -> None:
    near, far = await fleet.started(2)
    client = await fleet.join(far, "ann", "far")
    targets: dict[str, Any] = {
        "session": near.session("ann", "far"),
        "account": near.account("ann"),
        "everyone": near.everyone,
    }
    for number in (2**64, -(2**63) - 1, 10**400):
        with pytest.raises(ValueError, match="not for other servers"):
            targets[target].emit("n", number)
    with pytest.raises(ValueError, match="not for other servers"):
        near.forward("ann", "far", [2**64])
    await targets[target].emit("last")
    assert (await client.receive()).event == "last"

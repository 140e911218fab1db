"""Packets and payloads that are none, or not for there: nothing of them is delivered and that connection alone ends."""

from __future__ import annotations

import asyncio
import json

import pytest

from primacron import Primacron, Session
from primacron.ids import Sid
from primacron.protocol.engine import Phase
from tests.conftest import Serve
from tests.hostile.arena import Arena, assert_lives, get, head, until
from tests.hostile.conftest import Attack
from tests.support.engine import SEPARATOR, Polling
from tests.support.hearing import Hearing
from tests.support.websocket import encode_frame

GOOD = '4{"event":"echo","args":["good"],"id":1}'
GOOD_3 = f"{len(GOOD)}:{GOOD}"
OCTETS = {"Content-Type": "application/octet-stream"}
UNKNOWN = {"code": 1, "message": "Session ID unknown"}


async def refused_post(arena: Arena, polling: Polling, body: bytes, headers: dict[str, str] | None = None) -> None:
    """Check that a POST is refused, that nothing of it is delivered, and that its session ends with `parse error`."""
    session = arena.server.node.hub.connections[Sid(polling.sid)].session
    response = await polling.post(body, headers)
    assert (response.status, response.json()["code"]) == (400, 3), body[:100]
    error, context = await arena.error("error::protocol")
    assert str(error) == response.json()["message"], body[:100]
    assert context.session is session
    assert await arena.reason(session.account) == "parse error"
    assert (arena.heard, arena.is_quiet) == ([], True), body[:100]
    response = await polling.poll()
    assert (response.status, response.json()) == (400, UNKNOWN)
    await arena.error("error::protocol")


# What protocol 4 forbids as the body of a POST


async def test_octet_streams_of_protocol_4_are_all_answered_and_end_that_session(kind: str, attack: Attack) -> None:
    arena = await attack()
    polling = await arena.poll_in()
    poll = await arena.raw(get(polling.target))
    await arena.polling("mallory")
    request = head(f"POST {polling.target} HTTP/1.1", "Content-Type: application/octet-stream", "Content-Length: 2")
    posts = [await arena.raw(request + b"4x") for _ in range(50)]
    for post in posts:
        assert (await post.read_response()).status == 400
        await arena.error("error::protocol")
    assert (await poll.read_response()).text == "1"
    assert await arena.reason("mallory") == "transport error"
    assert arena.is_quiet


BODIES = [
    b"",
    b"\x1e",
    b"\x1e" * 999_999,
    GOOD.encode() + b"\x1e",
    b"\x1e" + GOOD.encode(),
    b"\x1e".join([GOOD.encode()] * 1001) + b"\x1e",
    b"\x1e".join([GOOD.encode()] * 5_000) + b"\x1e2",
    b"\x1e".join([b"3"] * 100_000) + b"\x1e9",
    b"\x1e".join([GOOD.encode()] * 2_000 + [b"1", b"6"]),
    GOOD.encode() + b"\x1e1\x1e" + GOOD.encode(),
]
BAD_PACKETS = [
    b"9zz",
    b"7",
    b"abc",
    b"B",
    b"b***",
    b"bA",
    b"bAB=C",
    b"bAQID\n",
    b"b" + "é".encode(),
    b" 4",
    b"\t4",
    b"\x00",
    b"-4",
    b"+4",
    "٤hello".encode(),
    "４hello".encode(),  # noqa: RUF001 (full width)
    "²".encode(),
    "\ufeff4".encode(),
    b"4\xff",
    b"4\xed\xa0\x80",
    b"4\xed\xa0\xbd\xed\xb8\x80",
    b"4\xc0\x80",
    b"4\xf4\x90\x80\x80",
    b"4\xe2\x82",
    b"\xff\xfe4\x00",
    b"2",
    b"2probe",
    b'0{"sid":"x"}',
    b"0",
    b"5",
]


async def test_of_a_body_with_anything_bad_nothing_is_delivered(kind: str, attack: Attack) -> None:
    arena = await attack()
    bodies = BODIES + [GOOD.encode() + b"\x1e" + packet for packet in BAD_PACKETS]
    for number, body in enumerate(bodies):
        await refused_post(arena, await arena.poll_in(f"mallory-{number}"), body)


@pytest.mark.parametrize("count", [17, 1000, 1001, 6000])
async def test_however_many_packets_one_body_has_they_are_delivered_in_order(
    kind: str, attack: Attack, count: int
) -> None:
    arena = await attack()
    polling = await arena.poll_in()
    packets = [f'4{{"event":"echo","args":["{number}"],"id":{number}}}' for number in range(count)]
    assert (await polling.post(SEPARATOR.join(packets))).text == "ok"
    answers: list[str] = []
    while len(answers) < count:  # those behind the first thousand come in later turns
        answers += (await polling.poll()).text.split(SEPARATOR)
    assert [json.loads(answer[1:])["ack"] for answer in answers] == list(range(count))
    assert arena.heard == [str(number) for number in range(count)]


async def test_a_body_over_the_limit_is_refused_whole_and_the_session_lives(kind: str, attack: Attack) -> None:
    arena = await attack()
    polling = await arena.poll_in()
    for body in (GOOD.encode() + b"\x1e" * 1_000_000, b"4" * 5_000_000):
        connection = await arena.raw(head(f"POST {polling.target} HTTP/1.1", f"Content-Length: {len(body)}"))
        assert (await connection.read_response()).status == 413
        await arena.error("error::protocol")
        connection.abort()
    assert arena.heard == []
    await assert_lives(polling)


async def test_binary_messages_of_nothing_are_messages(kind: str, attack: Attack) -> None:
    arena = await attack()
    polling = await arena.poll_in()
    socket = (await arena.client.connect("account=mallory-by-websocket")).socket
    assert (await polling.post("b")).text == "ok"
    await arena.error("error::invalid")
    for frame in (b"", b"\x04", b"4x"):
        await socket.send(frame)
        error, _ = await arena.error("error::invalid")
        assert str(error).startswith("binary message")
    await assert_lives(polling)


# What protocol 3 forbids

BODIES_3 = [
    b"",
    b"99999991:4" + b"2" * 900_000,
    b"99:4hi",
    b"1e9:4",
    b"-1:4",
    b"+1:4",
    b" 1:4",
    b"1 :4",
    b"1.0:4",
    b"0x1:4",
    b":4",
    b":",
    b"1:",
    b"0:",
    b"1",
    b"4hi",
    b"9" * 310 + b":4",
    b"9" * 900_000,
    b"9" * 900_000 + b":4",
    b"0" * 20 + b"1:4",
    "١:4".encode(),  # noqa: RUF001 (Arabic)
    "１:4".encode(),  # noqa: RUF001 (full width)
    "2:4😀".encode(),
    b"2:4\xff",
    b"4:4\xed\xa0\x80",
    b"1:4" * 1001 + b"1:0",
    b"0:" * 100_000,
    b"1:4\x1e1:4",
    b"4:b4**",
    b"3:b2A",
    b"1:b",
    b"1:3",
    b"1:5",
    b"2:0{",
]
BINARY_BODIES_3 = [
    b"\x00",
    b"\x01",
    b"\x00\xff",
    b"\x01\xff\x04",
    b"\x01\x02\x04",
    b"\x01" + b"\x09" * 310 + b"\xff\x04",
    b"\x01" + b"\x01" * 900_000,
    b"\x00\x09\x09\xff4",
    b"\x00\x0a\xff4",
    b"\x02\x01\xff4",
    b"\xff",
    b"\x00\x00\xff",
    b"\x01\x00\xff",
    b"\x00\x02\xff4\xff",
    b"\x01\x02\xff\x02\xff",
    b"\x01\x01\xff\x09",
    b"\x00\x01\xff4" * 1001 + b"\x00",
    b"4hi",
]


async def test_of_a_body_of_protocol_3_with_anything_bad_nothing_is_delivered(kind: str, attack: Attack) -> None:
    arena = await attack()
    for number, body in enumerate(BODIES_3):
        polling = await arena.poll_in(f"mallory-{number}", eio=3)
        await refused_post(arena, polling, body and GOOD_3.encode() + body if len(body) < 900_000 else body)
    good = bytes([0, *map(int, str(len(GOOD))), 255]) + GOOD.encode()
    for number, body in enumerate((*BINARY_BODIES_3, b"")):
        polling = await arena.poll_in(f"mallory-binary-{number}", eio=3)
        await refused_post(arena, polling, body and good + body if len(body) < 900_000 else body, OCTETS)


# Packets that a client may not send there

FORBIDDEN = [
    (4, ["2", "2probe", '0{"sid":"x"}', "0", "5", "5probe", "9", "", "b*", "٤"]),
    (3, ["3", "3probe", '0{"sid":"x"}', "5", "9", "", "b", "b2AQID", "b4*", b"", b"\x03", b"\x09", b"4x"]),
]


@pytest.mark.parametrize(("eio", "packets"), FORBIDDEN, ids=["protocol 4", "protocol 3"])
async def test_a_packet_that_is_not_for_an_open_websocket_ends_that_session(
    kind: str, attack: Attack, eio: int, packets: list[str | bytes]
) -> None:
    arena = await attack()
    for number, packet in enumerate(packets):
        socket = await arena.client.websocket_to(f"/stream/?EIO={eio}&transport=websocket&account=mallory-{number}")
        assert str(await socket.receive()).startswith("0{")
        session = arena.session(f"mallory-{number}")
        await socket.raw.send(encode(packet) + encode(GOOD))
        close = await socket.receive_close()
        assert (close.code, close.reason) == (1002, "parse error"), packet
        assert await arena.reason(session.account) == "parse error"
        _, context = await arena.error("error::protocol")
        assert context.session is session
        await socket.close()
    assert (arena.heard, arena.is_quiet) == ([], True)


def encode(packet: str | bytes) -> bytes:
    """Return a packet as a websocket frame."""
    return encode_frame(packet.encode()) if isinstance(packet, str) else encode_frame(packet, 2)


@pytest.mark.parametrize("by", ["polling", "websocket"])
async def test_a_close_packet_ends_that_session_at_once(kind: str, attack: Attack, by: str) -> None:
    arena = await attack()
    for number, packet in enumerate(("1", "1bye")):
        account = f"mallory-{number}"
        if by == "polling":
            polling = await arena.poll_in(account)
            poll = await arena.raw(get(polling.target))
            await arena.polling(account)
            assert (await polling.post(packet)).text == "ok"
            assert (await poll.read_response()).text == "6"
            response = await polling.poll()
            assert (response.status, response.json()) == (400, UNKNOWN)
            await arena.error("error::protocol")
        else:
            client = await arena.client.connect(f"account={account}")
            await client.socket.raw.send(encode(packet) + encode(GOOD))
            assert await client.receive_close() == (1000, "client close")
        assert await arena.reason(account) == "client close"
    assert (arena.heard, arena.is_quiet) == ([], True)


async def test_packets_without_a_meaning_are_ignored(kind: str, attack: Attack) -> None:
    arena = await attack()
    polling = await arena.poll_in()
    client = await arena.client.connect("account=mallory-by-websocket")
    for packet in ("6", "6x", "3", "3probe", "3" + "x" * 10_000):
        assert (await polling.post(packet)).text == "ok"
        await client.socket.send(packet)
    await assert_lives(polling)
    await client.emit("echo", "alive", id=1)
    assert await client.receive() == {"ack": 1, "args": ["alive"]}
    assert arena.is_quiet


async def test_a_flood_of_pongs_makes_nothing_grow_and_does_not_put_the_ping_off(kind: str, attack: Attack) -> None:
    arena = await attack(ping_interval=0.6, ping_timeout=5)
    polling = await arena.poll_in()
    client = await arena.client.connect("account=mallory-by-websocket")
    before = arena.tables()
    for _ in range(10):
        assert (await polling.post(SEPARATOR.join(["3"] * 1000))).text == "ok"
        await client.socket.raw.send(encode_frame(b"3") * 10_000)
    await client.socket.send(GOOD)
    while (packet := await client.socket.receive()) == "2":
        pass
    assert packet == '4{"ack":1,"args":["good"]}'
    assert arena.tables().deadlines <= before.deadlines
    assert set((await polling.poll()).text.split(SEPARATOR)) == {"2"}
    assert arena.is_quiet


async def test_a_flood_of_pings_of_protocol_3_is_bounded_like_all_that_waits(kind: str, attack: Attack) -> None:
    arena = await attack(outbox_limit=300_000)
    polling = await arena.poll_in(eio=3)
    connection = arena.session("mallory").connection
    assert connection is not None
    posts = 0
    while connection.phase is Phase.OPEN:
        assert connection.waiting < 400_000
        response = await polling.post("1:2" * 1000)
        posts += 1
    assert 3 <= posts <= 6
    assert response.text == "ok"  # of the rest nothing is told: its client hears of the end by the next poll
    assert await arena.reason("mallory") == "slow"
    await arena.error("error::slow")
    assert (await polling.poll()).text == "1:1"


# Text that has to travel as it is

TEXTS = ["\u2028\u2029", "a\x1e4b", "\x1e", "\x00", "\ufffd", "\ufeff", "\U0010ffff", "é€😀", '"\\', "</script>"]


@pytest.mark.parametrize("eio", [4, 3])
async def test_any_text_comes_back_as_it_went(kind: str, attack: Attack, eio: int) -> None:
    arena = await attack()
    polling = await arena.poll_in(eio=eio)
    socket = await arena.client.websocket_to(f"/stream/?EIO={eio}&transport=websocket&account=by%20websocket")
    await socket.receive()
    for ascii_only in (True, False):
        for text in TEXTS:
            packet = "4" + json.dumps({"event": "echo", "args": [text], "id": 1}, ensure_ascii=ascii_only)
            units = len(packet.encode("utf-16-le")) // 2
            assert (await polling.post(packet if eio == 4 else f"{units}:{packet}")).text == "ok"
            answer = (await polling.poll()).text
            assert json.loads(answer.partition("4")[2] if eio == 4 else answer.partition(":")[2][1:])["args"] == [text]
            await socket.send(packet)
            assert json.loads(str(await socket.receive())[1:])["args"] == [text]
    assert arena.is_quiet


async def test_a_separator_inside_a_message_splits_it_on_polling_and_is_no_json_on_a_websocket(
    kind: str, attack: Attack
) -> None:
    arena = await attack()
    polling = await arena.poll_in()
    client = await arena.client.connect("account=mallory-by-websocket")
    split = '4{"event":"echo","args":["a\x1e4b"],"id":1}'
    assert (await polling.post(split)).text == "ok"
    for _ in range(2):
        await arena.error("error::json")
    await client.socket.send(split)
    await arena.error("error::json")
    await assert_lives(polling)
    assert arena.heard == ["alive"]


async def test_a_raw_text_with_a_separator_cannot_forge_packets_for_others(kind: str, serve: Serve) -> None:
    server = Primacron(dialect="raw")
    errors = Hearing(server, "error::*")

    @server.event("message")
    def say(session: Session, text: str) -> None:
        server.everyone.emit("message", f"{session.account}: {text}")

    client = await serve(server)
    polling = await client.poll_in("account=ann")
    socket = await client.websocket("account=mallory")
    await socket.receive()
    for text in ("hi\x1e4ann: forged", "\x1e1", "\x1e"):
        await socket.send("4" + text)
        error, context = await errors.next_error()
        assert "U+001E" in str(error)
        assert (context.event, context.message) == ("message", text)
    await socket.send("4honest words")
    assert (await polling.poll()).text == "4mallory: honest words"
    assert await socket.receive() == "4mallory: honest words"
    ann = next(each for each in server.node.hub.sessions if each.account == "ann")
    with pytest.raises(ValueError, match=r"U\+001E"):
        server.forward("ann", ann.id, "a\x1eb")
    server.forward("ann", ann.id, b"a\x1eb")
    assert (await polling.poll()).text == "bYR5i"


@pytest.mark.parametrize("options", [{"transports": ["websocket"]}, {"protocols": [3]}])
async def test_a_raw_text_with_a_separator_arrives_where_nothing_separates_packets(
    kind: str, serve: Serve, options: dict[str, list[str] | list[int]]
) -> None:
    server = Primacron(None, {"dialect": "raw", **options})

    @server.event("message")
    def echo(session: Session, text: str) -> None:
        session.emit("message", text)

    client = await serve(server)
    eio = 3 if "protocols" in options else 4
    socket = await client.websocket_to(f"/stream/?EIO={eio}&transport=websocket&account=ann")
    await socket.receive()
    await socket.send("4a\x1e4b")
    assert await socket.receive() == "4a\x1e4b"


async def test_a_text_half_of_which_was_sent_is_not_delivered(kind: str, attack: Attack) -> None:
    arena = await attack()
    client = await arena.client.connect("account=mallory")
    await client.socket.raw.send(encode_frame(GOOD.encode())[:-1])
    await asyncio.sleep(0)
    client.socket.raw.abort()
    await until(lambda: arena.ended.get("mallory"), "the end")
    assert arena.heard == []

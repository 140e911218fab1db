"""
Fixed pieces of work, counted, and a session, weighed; see the guard.

``python -m tests.benchmarks.fixed_work`` prints what each takes. Counts are
multiples of a loop that is counted in the same run. It wants the plain codec,
whose work the interpreter sees, and takes care of that by itself.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import os
import sys
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Final

from primacron import Session
from primacron.plain import SWITCH
from primacron.standalone.frames import COMPILED, TEXT, FrameReader, FrameSettings, encode_frame
from primacron.turns import BUDGET, Turns
from tests.benchmarks.bed import CHANNELS, Bed, Wire, request
from tests.benchmarks.counting import Work, count

#: Receivers of a fan-out, and sessions that are weighed.
RECEIVERS: Final = 100
SESSIONS: Final = 1_500
#: Channels that such a session joins beside its first.
FURTHER: Final = len(CHANNELS) - 1
TEXT_OF_EVENT: Final = "hello, how do you do?"


class Reference:
    """What work is compared with: calls, attributes, a dict, a list, a little arithmetic."""

    __slots__ = ("items", "total")

    def __init__(self) -> None:
        self.items: dict[int, int] = {}
        self.total = 0

    def add(self, key: int, value: int) -> int:
        """Add a number to the sum, or to the dict the first time."""
        if key in self.items:
            self.total += value
        else:
            self.items[key] = value
        return self.total

    def run(self) -> None:
        """Make a round."""
        seen: list[int] = []
        for number in range(10):
            if self.add(number & 3, number) < 0 and seen:
                seen.clear()
            seen.append(number)
            whole, rest = divmod(number, 7)
            if whole is None or rest == 9:
                raise ArithmeticError


class Texts(FrameReader):
    """Reads texts, and encodes a frame for each."""

    __slots__ = ("encoded",)

    def on_text(self, text: str) -> None:
        self.encoded = encode_frame(TEXT, text.encode(), b"4")


def client_frame(event: str) -> bytes:
    """Return the frame of an event, as a client sends it."""
    return client_packet(f'4{{"event":"{event}","args":["{TEXT_OF_EVENT}"]}}')


def client_packet(packet: str) -> bytes:
    """Return the frame of a packet, as a client sends it."""
    text = packet.encode()
    key = b"\x37\xfa\x21\x3d"
    return bytes([0x81, 0x80 | len(text)]) + key + bytes(byte ^ key[place % 4] for place, byte in enumerate(text))


def codec() -> Work:
    """Read a frame and encode another."""
    frame = client_frame("echo")
    reader = Texts(FrameSettings(1_000_000))

    def read_and_encode() -> None:
        reader.settings.buffer[: len(frame)] = frame
        reader.feed(reader.settings.buffer, len(frame))

    read_and_encode()
    assert TEXT_OF_EVENT.encode() in reader.encoded
    return read_and_encode


def echo(bed: Bed) -> Work:
    """Take an event by websocket and answer it."""
    client = bed.connect(Wire())
    frame = client_frame("echo")

    def answer() -> None:
        client.feed(frame)
        bed.flush()

    assert_writes(answer, client, len(frame) - 4)
    return answer


def echo_of_bare_text(bed: Bed) -> Work:
    """Take a text by websocket and answer it, where messages are no envelopes."""
    client = bed.connect(Wire())
    frame = client_packet(f"4{TEXT_OF_EVENT}")

    def answer() -> None:
        client.feed(frame)
        bed.flush()

    assert_writes(answer, client, len(frame) - 4)
    return answer


def echo_by_polling(bed: Bed) -> Work:
    """Take an event by a POST and answer it by a poll that waits."""
    target = bed.poll_in()
    polls, posts = bed.open(Wire()), bed.open(Wire())
    poll = request("GET", target)
    post = request("POST", target, f'4{{"event":"echo","args":["{TEXT_OF_EVENT}"]}}')

    def answer() -> None:
        polls.feed(poll)
        posts.feed(post)
        bed.flush()

    answer()
    assert_writes(answer, polls, polls.written)
    return answer


def fan_out(bed: Bed) -> Work:
    """Take an event and send another to all."""
    clients = [bed.connect(Wire()) for _ in range(RECEIVERS)]
    return send_to(bed, clients, "all")


def fan_out_in_channel(bed: Bed) -> Work:
    """Take an event and send another to all members of a channel."""
    clients = [bed.connect(Wire()) for _ in range(RECEIVERS)]
    for each in bed.sessions():
        each.join(CHANNELS[0])
    return send_to(bed, clients, "channel")


def send_to(bed: Bed, clients: list[Wire], event: str) -> Work:
    """Take an event of one client and send another to all."""
    frame = client_frame(event)
    news = 2 + len(f'4{{"event":"news","args":["{TEXT_OF_EVENT}"]}}')

    def send() -> None:
        clients[0].feed(frame)
        bed.flush()

    for each in (clients[0], clients[-1]):
        assert_writes(send, each, news)
    return send


def turn(bed: Bed, frame: bytes) -> Work:
    """
    Read what the event loop brings at once of a client that sends as fast as it can, until others have their turn.

    The clock goes on by half of what a turn has with each look at it, so that this
    is the most that is done beyond it.
    """
    client = bed.connect(Wire())
    stream = client.protocol
    ticks = itertools.count()
    turns = bed.listener.turns = Turns(asyncio.get_running_loop(), lambda: next(ticks) * BUDGET / 2)
    data = frame * (len(stream.get_buffer(-1)) // len(frame))

    def read() -> None:
        client.feed(data)
        bed.flush()
        # As if nothing had come: what is left would be read in the next turn.
        stream.rest = None
        stream.halted = 0
        turns._end = 0.0
        turns._waiting.clear()

    client.feed(data)
    assert turns.has_more
    assert len(data) * 0.99 < len(stream.rest) < len(data)
    stream.rest = None
    stream.halted = 0
    return read


def handshake(bed: Bed) -> Work:
    """Open a session by websocket."""
    wires = iter([Wire() for _ in range(1_000)])

    def connect() -> None:
        bed.connect(next(wires))

    before = bed.server.count()
    connect()
    assert bed.server.count() == before + 1
    return connect


def join(bed: Bed) -> Work:
    """Put a session into a channel that another is in, and take it out again."""
    for _ in range(2):
        bed.connect(Wire())
    session, other = bed.sessions()
    other.join(CHANNELS[0])

    def join_and_leave() -> None:
        session.join(CHANNELS[0])
        session.leave(CHANNELS[0])

    join_and_leave()
    assert session.channels == frozenset()
    session.join(CHANNELS[0])
    assert session.channels == {CHANNELS[0]}
    session.leave(CHANNELS[0])
    return join_and_leave


def assert_writes(work: Work, wire: Wire, size: int) -> None:
    """Make sure that the work is done."""
    before = wire.written
    work()
    assert wire.written - before == size > 0, (wire.written - before, size)


def weigh(bed: Bed) -> float:
    """Return how many bytes a session by websocket holds that does nothing."""
    wires = [Wire() for _ in range(SESSIONS + 10)]
    for wire in wires[:10]:
        bed.connect(wire)
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for wire in wires[10:]:
        bed.connect(wire)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert bed.server.count() == SESSIONS + 10
    return (after - before) / SESSIONS


def weigh_channels(bed: Bed, before: int, joined: int) -> float:
    """Return how many bytes each channel takes that sessions join which are in some already."""
    for _ in range(SESSIONS):
        bed.connect(Wire())
    sessions = bed.sessions()
    join_all(sessions, CHANNELS[:before])
    tracemalloc.start()
    join_all(sessions, CHANNELS[before : before + joined])
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size / SESSIONS / joined


def join_all(sessions: list[Session], names: list[str]) -> None:
    """Put sessions into channels."""
    for name in names:
        for each in sessions:
            each.join(name)
    gc.collect()


async def on_a_bed(measure: Callable[[Bed], float], dialect: str = "primacron") -> float:
    """Measure on a new server, from a callback of the event loop: there the server reads from clients."""
    bed = Bed(dialect)
    await bed.start()
    loop = asyncio.get_running_loop()
    measured: asyncio.Future[float] = loop.create_future()

    def run() -> None:
        try:
            measured.set_result(measure(bed))
        except BaseException as error:  # it belongs to who waits
            measured.set_exception(error)

    loop.call_soon(run)
    try:
        return await measured
    finally:
        await bed.close()


PIECES: Final[dict[str, Callable[[Bed], Work]]] = {
    "echo": echo,
    "echo by polling": echo_by_polling,
    "delivery of a fan-out": fan_out,
    "delivery of a fan-out in a channel": fan_out_in_channel,
    "join and leave": join,
    "handshake": handshake,
    "turn of a client that sends small messages": partial(turn, frame=client_frame("echo")),
    "turn of a client that sends NOOPs": partial(turn, frame=client_packet("6")),
}


async def measure_all() -> dict[str, float]:
    """Return what every piece takes."""
    found = {"codec": count(codec())}
    for name, piece in PIECES.items():
        found[name] = await on_a_bed(partial(count_on, piece))
    found["echo of a bare text"] = await on_a_bed(partial(count_on, echo_of_bare_text), "raw")
    for name in ("delivery of a fan-out", "delivery of a fan-out in a channel"):
        found[name] /= RECEIVERS
    loop = count(Reference().run)
    found = {name: value / loop for name, value in found.items()}
    found["bytes of an idle session"] = await on_a_bed(weigh)
    found["bytes of a first channel"] = await on_a_bed(partial(weigh_channels, before=0, joined=1))
    found["bytes of a further channel"] = await on_a_bed(partial(weigh_channels, before=1, joined=FURTHER))
    return {name: round(value, 3) for name, value in found.items()}


def count_on(piece: Callable[[Bed], Work], bed: Bed) -> float:
    """Count a piece of work on a server."""
    return count(piece(bed))


def main() -> None:
    """Print what every piece takes."""
    if COMPILED or os.environ.get("PYTHONHASHSEED") != "0":
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.benchmarks.fixed_work"],
            {**os.environ, SWITCH: "1", "PYTHONHASHSEED": "0"},
        )
    gc.disable()
    print(json.dumps(asyncio.run(measure_all()), indent=1))


if __name__ == "__main__":
    main()

"""
Any interleaving of requests, websockets, packets, aborts, sends and passing time.

Whatever happens, a connection is in a phase of the table, nothing raises, no message arrives twice or out of order,
none is lost while the connection lives, and nothing stays behind.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from primacron.protocol.engine import Phase
from tests.transports.world import Client, World

OPTIONS = {
    "ping_interval": 0.4,
    "ping_timeout": 0.3,
    "upgrade_timeout": 0.5,
    "max_payload": 10_000,
    "max_packets": 20,
    "inbox_limit": 3,
    "outbox_limit": 3000,
    "outbox_total": 4000,
}

CLIENTS = st.integers(0, 2)
TURNS = st.integers(1, 3)
COUNTS = st.integers(1, 6)
PAUSES = st.sampled_from([0, 0, 1, 3])

# What a client may do wrong, or end with.
WRONG_PACKETS = ["2probe", "5", "1", "2", "3", "6", "9", "", "b***", "4early", b"\x00", b""]
WRONG_BODIES = [b"", b"1", b"2", b"5", b"6", b"9", b"\xff", b"1\x1e4x", b"1:1", b"9:4", b"0:"]
MISDEEDS = st.one_of(
    st.tuples(st.just("send"), st.sampled_from(WRONG_PACKETS)),
    st.tuples(st.just("post"), st.sampled_from(WRONG_BODIES)),
    st.tuples(st.sampled_from(["poll", "websocket", "abort poll", "abort post", "abort websocket"]), st.none()),
)


class Interleaving(RuleBasedStateMachine):
    """Up to three clients of one server."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(**OPTIONS)

    @initialize(version=st.sampled_from([4, 4, 3]))
    def begin(self, version: int) -> None:
        client = self.add(version)
        self.world.loop.turn(client.poll, times=2)

    def add(self, version: int) -> Client:
        client = Client(self.world, len(self.world.clients), version)
        self.world.clients.append(client)
        return client

    def client(self, index: int) -> Client:
        """Return one of the clients, a living one if there is any."""
        living = [client for client in self.world.clients if not client.ends]
        found = living or self.world.clients
        return found[index % len(found)]

    def do(self, action: Callable[[], object], turns: int) -> None:
        self.world.loop.turn(action, times=turns)

    # Clients that come

    @rule(version=st.sampled_from([4, 3]), by_websocket=st.booleans(), turns=TURNS)
    def connect(self, version: int, by_websocket: bool, turns: int) -> None:
        if len(self.world.clients) < 3 or all(each.ends for each in self.world.clients):
            client = self.add(version)
            self.do(client.open_websocket if by_websocket else client.poll, turns)

    # What clients do that keep the rules

    @rule(index=CLIENTS, turns=TURNS)
    def poll(self, index: int, turns: int) -> None:
        client = self.client(index)
        if client.is_on_polling and all(poll.is_over for poll in client.polls):
            self.do(client.poll, turns)

    @rule(index=CLIENTS, count=COUNTS, pause=PAUSES, is_whole=st.booleans(), turns=TURNS)
    def post(self, index: int, count: int, pause: int, is_whole: bool, turns: int) -> None:
        client = self.client(index)
        if client.is_on_polling and all(post.is_over for post, _ in client.posts):
            numbers, packets = client.new_messages(count, pause)
            self.do(lambda: client.post(client.encode(packets), numbers, is_whole=is_whole), turns)

    @rule(index=CLIENTS, turns=TURNS)
    def finish_post(self, index: int, turns: int) -> None:
        for post, _ in self.client(index).posts:
            if not post.is_over and not post.is_whole:
                self.do(post.finish, turns)

    @rule(index=CLIENTS, turns=TURNS)
    def beat(self, index: int, turns: int) -> None:
        client = self.client(index)
        packet = "3" if client.version == 4 else "2"
        if client.is_on_polling and all(post.is_over for post, _ in client.posts):
            self.do(lambda: client.post(client.encode([packet]), [], is_whole=True), turns)
        elif not client.is_on_polling:
            self.send(client, packet, turns)

    @rule(index=CLIENTS, turns=TURNS)
    def upgrade(self, index: int, turns: int) -> None:
        """Take the next step of an upgrade."""
        client = self.client(index)
        connection = client.connection
        if connection is None or not client.is_on_polling:
            return
        if connection.phase is Phase.PROBING:
            self.send(client, "5", turns)
        elif connection.probe is not None:
            self.send(client, "2probe", turns)
        else:
            self.do(client.open_websocket, turns)

    @rule(index=CLIENTS, count=COUNTS, pause=PAUSES, turns=TURNS)
    def send_messages(self, index: int, count: int, pause: int, turns: int) -> None:
        client = self.client(index)
        if client.sid and not client.is_on_polling:
            for packet in client.new_messages(count, pause)[1]:
                self.send(client, packet, turns)

    def send(self, client: Client, packet: str | bytes, turns: int) -> None:
        if client.websockets and not client.websockets[-1].is_over:
            self.do(functools.partial(client.websockets[-1].send, packet), turns)

    @rule(index=CLIENTS, flows=st.booleans(), turns=TURNS)
    def stall(self, index: int, flows: bool, turns: int) -> None:
        for websocket in self.client(index).websockets:
            if not websocket.is_over:
                self.do(websocket.flow if flows else websocket.stall, turns)

    # What they do wrong

    @rule(index=CLIENTS, misdeed=MISDEEDS, turns=TURNS)
    def misbehave(self, index: int, misdeed: tuple[str, str | bytes | None], turns: int) -> None:
        client = self.client(index)
        what, content = misdeed
        if not client.sid:
            return
        if what == "send" and content is not None:
            self.send(client, content, turns)
        elif what == "post" and isinstance(content, bytes):
            self.do(lambda: client.post(content, [], is_whole=True), turns)
        elif what in ("poll", "websocket"):
            self.do(client.poll if what == "poll" else client.open_websocket, turns)
        else:
            self.do(lambda: self.lose(client, what), turns)

    @staticmethod
    def lose(client: Client, what: str) -> None:
        """Drop one request, or all websockets."""
        if what == "abort websocket":
            for websocket in client.websockets:
                if not websocket.is_over:
                    websocket.lose()
            return
        for each in client.polls if what == "abort poll" else [post for post, _ in client.posts]:
            if not each.is_over:
                each.lose()
                return

    # The server

    @rule(index=CLIENTS, count=st.integers(1, 5), size=st.sampled_from([0, 10, 900, 4000]), turns=TURNS)
    def emit(self, index: int, count: int, size: int, turns: int) -> None:
        client = self.client(index)
        self.do(lambda: self.world.emit(client, count, size), turns)

    @rule(index=CLIENTS, emits=st.booleans(), turns=TURNS)
    def disconnect(self, index: int, emits: bool, turns: int) -> None:
        client = self.client(index)

        def end() -> None:
            if emits:
                self.world.emit(client, 1, 0)
            if client.session is not None:
                client.session.disconnect("enough")

        self.do(end, turns)

    @rule(seconds=st.sampled_from([0.05, 0.1, 0.2]))
    def pass_time(self, seconds: float) -> None:
        self.world.loop.advance(seconds)

    @invariant()
    def check(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(self.world.destroy)
            self.world.finish()


def test_no_interleaving_breaks_a_connection() -> None:
    run_state_machine_as_test(
        Interleaving,
        settings=settings(
            max_examples=150,
            stateful_step_count=60,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

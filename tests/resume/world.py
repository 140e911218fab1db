"""A client, a server and the connections between them, in which everything can happen in any order."""

from __future__ import annotations

from typing import Final, Protocol

from hypothesis import strategies as st

from tests.resume.core import Delivered, Heard, Message, Opened, State
from tests.resume.counting import Counting, Wire

STEPS: Final = (
    "emit",
    "send",
    "to server",
    "all to server",
    "to client",
    "all to client",
    "come",
    "detach",
    "cut",
    "probe",
)


STORIES: Final = st.lists(
    st.tuples(st.sampled_from(STEPS), st.sampled_from((0, 0, 0, 1, 2))), min_size=20, max_size=120
)


class Counter(Protocol):
    """What a client's core is for this; see :class:`tests.resume.core.Core`."""

    @property
    def connection(self) -> int: ...

    @property
    def state(self) -> State: ...

    @property
    def unconfirmed(self) -> list[Message]: ...

    def begin(self, now: float) -> Message: ...

    def receive(self, connection: int, message: Message, now: float) -> Heard | None: ...

    def send(self, message: Message) -> None: ...

    def to_write(self, now: float) -> list[Message]: ...

    def probe(self) -> Message: ...


class World:
    """A client, a server and the connections between them, none of which is known to be lost."""

    def __init__(self, core: Counter) -> None:
        self.core = core
        self.server = Counting(limit=1)
        self.wires: list[Wire] = []
        #: The message that must come next.
        self.next = 0
        self.numbers = 0
        self.sent: list[Message] = []

    def play(self, step: str, which: int) -> None:
        """Do one step, on the newest connection or an older one."""
        wire = self.wires[-1 - which % len(self.wires)] if self.wires else None
        if step == "emit" and self.server.is_open:
            self.server.send(number_event(len(self.server.sent)))
        elif step == "send":
            self.sent.append(number_event(len(self.sent)))
            self.core.send(self.sent[-1])
        elif step == "come":
            self.come()
        elif step == "detach":
            self.server.detach()
        elif step == "cut":
            self.server.cut()
        elif wire is not None:
            self.pass_on(step, wire)
        self.write()

    def pass_on(self, step: str, wire: Wire) -> None:
        """Do one step on a connection."""
        if step == "to server" and wire.to_server:
            self.server.receive(wire, wire.to_server.popleft())
        elif step == "to client" and wire.to_client:
            self.take(self.core.receive(wire.number, wire.to_client.popleft(), 0))
        elif step.startswith("all "):
            for _ in range(len(wire.to_server) + len(wire.to_client)):
                self.pass_on(step.removeprefix("all "), wire)
        elif step == "probe" and self.core.state is State.OPEN:
            self.wires[-1].to_server.append(self.core.probe())

    def come(self) -> None:
        """Come back; the older connections go on as they like."""
        first = self.core.begin(0)
        self.wires.append(Wire(self.core.connection))
        self.wires[-1].to_server.append(first)

    def write(self) -> None:
        for each in self.core.to_write(0):
            self.wires[-1].to_server.append(each)

    def take(self, heard: Heard | None) -> None:
        if isinstance(heard, Delivered):
            assert heard.message == number_event(self.next)
            self.next += 1
        elif isinstance(heard, Opened) and heard.recovered is False:
            self.next = 0
        elif isinstance(heard, Opened) and heard.lost is not None:
            self.next += heard.lost["messages"]

    def settle(self) -> None:
        """Come back by a connection that lasts, and let all arrive."""
        self.come()
        while self.wires[-1].to_server or self.wires[-1].to_client:
            self.play("to server", 0)
            self.play("to client", 0)

    def play_all(self, steps: list[tuple[str, int]]) -> None:
        """Play a story, and check that all arrived, once and in order, or that its loss was told."""
        for step, which in [("come", 0), ("all to server", 0), *steps]:
            self.play(step, which)
        self.settle()
        assert self.next == len(self.server.sent)
        assert self.server.handled == self.sent
        self.core.receive(self.core.connection, {"taken": self.server.taken}, 0)
        assert self.core.unconfirmed == []
        about = self.core.begin(0)["session"]
        assert (about["taken"], about["run"]) == (self.server.written, self.server.run)


def number_event(number: int) -> Message:
    """Return a message with a number."""
    return {"event": "number", "args": [number]}

"""What a server does to keep its count of a session, and a network whose connections drop: a model without I/O."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from tests.resume.core import Message, is_counted

TOKEN = "token"
WINDOW = 120.0


@dataclass
class Wire:
    """A connection: what is under way in either direction."""

    number: int = 0
    to_server: deque[Message] = field(default_factory=deque)
    to_client: deque[Message] = field(default_factory=deque)


class Counting:
    """The server's side of one session, whose log holds so many messages while nobody confirms them."""

    def __init__(self, limit: int) -> None:
        self.is_open = False
        self._opened_by = 0
        self._limit = limit
        self._begin()

    def _begin(self) -> None:
        self.handled: list[Message] = []
        self.sent: list[Message] = []
        self.run = self.taken = self.attempt = 0
        self._log: deque[Message] = deque()
        self._base = 0  # how many messages of this run are confirmed
        self._lost = 0  # how many of the oldest above were lost since the client is known to have heard of losses
        self._told: Message | None = None  # the answer that began this run, until the client is known to have it
        self._wire: Wire | None = None

    @property
    def written(self) -> int:
        """How many messages of this run there were."""
        return self._base + self._lost + len(self._log)

    def send(self, message: Message) -> None:
        """Queue a message, and write it if there is a connection."""
        self.sent.append(message)
        self._log.append(message)
        if self._wire is not None:
            self._wire.to_client.append(message)

    def detach(self) -> None:
        """Notice that the connection has gone."""
        self._wire = None

    def cut(self) -> None:
        """Keep no more of the log than it may hold."""
        while len(self._log) > self._limit:
            self._log.popleft()
            self._lost += 1

    def receive(self, wire: Wire, message: Message) -> None:
        """Take a message; the first one of a connection takes over."""
        if "session" in message:
            self._answer(wire, message["session"])
        elif wire is self._wire and is_counted(message):
            self.taken += 1
            self.handled.append(message)
        elif wire is self._wire:
            self._confirm(message["taken"])
            wire.to_client.append({"taken": self.taken})

    def _confirm(self, taken: int) -> None:
        """Forget what the client has; of the rest, what is not in the log is lost."""
        for _ in range(taken - self._base - self._lost):
            self._log.popleft()
        self._lost = max(0, self._base + self._lost - taken)
        self._base, self._told = taken, None

    def _answer(self, wire: Wire, back: Message) -> None:
        if back and back["attempt"] <= self.attempt:
            return  # a first message that comes late
        if not back and wire.number < self._opened_by:
            return  # the same, and a session of its own, which nobody wants
        self.attempt = back.get("attempt", 0)
        if not back:
            self._begin()
            self._opened_by = wire.number
        self._wire, self.is_open = wire, True
        wire.to_client.append({"event": "session", "args": [self._about(back)]})
        wire.to_client.extend(self._log)

    def _about(self, back: Message) -> Message:
        common = {"session": "s", "token": TOKEN, "window": WINDOW, "channels": {}}
        if not back:
            return common | {"recovered": False, "lost": None, "taken": 0, "run": 0}
        if back["run"] == self.run:
            self._confirm(back["taken"])
            if not self._lost:
                return common | {"recovered": True, "lost": None, "taken": self.taken, "run": self.run}
            self._told = {"recovered": "partial", "taken": self.taken, "lost": {"messages": 0, "exact": True}}
            self.run, self.taken, self._base = self.run + 1, 0, 0
        assert self._told is not None
        assert back["run"] == self.run - 1
        self._told["lost"]["messages"] += self._lost
        self._lost = 0
        return common | self._told | {"run": self.run}

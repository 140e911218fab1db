"""A POST with many packets: however many they are, others have their turn, and the session sets the pace."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from primacron.errors import TooMuchInput
from primacron.protocol.close_reasons import TOO_MUCH
from primacron.protocol.engine import ENDED, ON_POLLING
from primacron.protocol.packets import Packet, PacketType
from primacron.protocol.payload import Payload
from primacron.sessions.connection import Connection

#: Packets that are decoded at a time: what they are made of weighs fifty times what a small one is in the body.
BLOCK: Final = 500


class Backlog:
    """
    The packets of one POST, which are checked first and then handed on.

    Both go on for as long as the turn has time. What is handed on stops where the
    session has enough to do, and goes on when it has room again. What is kept is
    the body, and it is counted.
    """

    __slots__ = ("_begin", "_connection", "_is_waiting", "_packets", "_payload")

    def __init__(self, connection: Connection, payload: Payload, size: int) -> None:
        self._connection = connection
        self._payload = payload
        self._packets: deque[Packet] = deque()
        #: Whether the session is to say when it goes on.
        self._is_waiting = True
        #: Called before the first packet is handed on, or with False if none ever is.
        self._begin: Callable[[bool], None] | None = None
        connection.runtime.unfinished.hold(self, size)

    # First

    def begin_with(self, begin: Callable[[bool], None]) -> None:
        """Let the connection act on all of it; the function is called before, or with False if it never does."""
        self._begin = begin
        self._connection.receive_backlog(self)

    def check(self, packets: list[Packet], done: Callable[[Exception | None], None]) -> None:
        """Check these, the first ones, and all behind them; the function is called with what is wrong, or None."""
        connection, payload, turns = self._connection, self._payload, self._connection.runtime.turns
        try:
            while connection.phase in ON_POLLING:
                connection.check(packets, is_last=payload.is_done)
                if payload.is_done:
                    payload.begin()
                    break
                packets = payload.take(BLOCK)
                if turns.is_over():
                    turns.defer(partial(self.check, packets, done))
                    return
        except Exception as error:
            self.drop()
            done(error)
        else:
            done(None)

    def drop(self) -> None:
        """Let go of the body."""
        self._connection.runtime.unfinished.release(self)
        begin, self._begin = self._begin, None
        if begin is not None:
            begin(False)

    # Then

    def hand_on(self) -> None:
        """Let the connection act on what comes next."""
        connection, payload = self._connection, self._payload
        begin, self._begin = self._begin, None
        if begin is not None:
            begin(True)
        self._is_waiting = False
        while connection.backlog is self:
            if not self._packets:
                if payload.is_done:
                    self.drop()
                    connection.end_backlog()
                    return
                self._packets += payload.take(BLOCK)
            connection.receive(self._packets.popleft(), connection.transport)
            if connection.is_full:
                self._is_waiting = True
                return
            if connection.runtime.turns.is_over():
                connection.runtime.turns.defer(self.hand_on)
                return

    def go_on(self) -> None:
        """Hand on what is left, in a later turn: the session has room."""
        if self._is_waiting:
            self._is_waiting = False
            self._connection.runtime.turns.defer(self.hand_on)

    # At the end

    def overflow(self, error: TooMuchInput) -> None:
        """End: see :class:`primacron.sessions.unfinished.Sender`."""
        if self._connection.phase not in ENDED:
            self._connection.refuse(error, self._connection.transport, TOO_MUCH)

    def end(self, *, is_wanted: bool) -> Iterator[str | bytes] | None:
        """Hand nothing on any more; return the messages that are left, if they are still to be handled."""
        if is_wanted and self._begin is None:
            return self._rest()
        self.drop()
        return None

    def _rest(self) -> Iterator[str | bytes]:
        while self._packets or not self._payload.is_done:
            if not self._packets:
                self._packets += self._payload.take(BLOCK)
            packet = self._packets.popleft()
            if packet.type is PacketType.MESSAGE:
                yield packet.data
        self.drop()

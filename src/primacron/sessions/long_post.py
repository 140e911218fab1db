"""A POST with many packets, processed in slices: fair to other clients, and subject to back pressure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from primacron.errors import TooMuchInput
from primacron.protocol.close_reasons import TOO_MUCH
from primacron.protocol.engine import BEFORE_UPGRADE, ENDED
from primacron.protocol.packets import Packet, PacketType
from primacron.protocol.payload import Payload
from primacron.sessions.connection import Connection

#: Packets decoded at a time: a small packet takes fifty times as much memory decoded as it does in the body.
BLOCK: Final = 500


class Backlog:
    """
    The packets of one POST: all are checked before the first is handed over.

    Both passes yield when the turn's budget is used up. Handing over also pauses while
    the session is full. Only the body is retained; it counts as unfinished input.
    """

    __slots__ = ("_begin", "_connection", "_is_waiting", "_packets", "_payload")

    def __init__(self, connection: Connection, payload: Payload, size: int) -> None:
        self._connection = connection
        self._payload = payload
        self._packets: deque[Packet] = deque()
        #: Whether handing over waits for the session to call :meth:`go_on`.
        self._is_waiting = True
        #: Called with True before the first packet is handed over, or with False if none will be.
        self._begin: Callable[[bool], None] | None = None
        connection.runtime.unfinished.hold(self, size)

    # Checking

    def begin_with(self, begin: Callable[[bool], None]) -> None:
        """Hand all packets to the connection; ``begin`` gets True before the first, or False if there will be none."""
        self._begin = begin
        self._connection.receive_backlog(self)

    def check(self, packets: list[Packet], done: Callable[[Exception | None], None]) -> None:
        """Check these first packets and all that follow; ``done`` receives the error, or None."""
        connection, payload, turns = self._connection, self._payload, self._connection.runtime.turns
        try:
            while connection.phase in BEFORE_UPGRADE:
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
        """Discard the body."""
        self._connection.runtime.unfinished.release(self)
        begin, self._begin = self._begin, None
        if begin is not None:
            begin(False)

    # Handing over

    def hand_on(self) -> None:
        """Hand packets to the connection until the session is full or the turn is over."""
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
        """Resume handing over in a later turn, as the session has room again."""
        if self._is_waiting:
            self._is_waiting = False
            self._connection.runtime.turns.defer(self.hand_on)

    # Ending

    def overflow(self, error: TooMuchInput) -> None:
        """Close the connection: unfinished input exceeds the limit, and this body is among the largest."""
        if self._connection.phase not in ENDED:
            self._connection.refuse(error, self._connection.transport, TOO_MUCH)

    def end(self, *, is_wanted: bool) -> Iterator[str | bytes] | None:
        """Stop handing over; return the remaining messages if they are still to be handled."""
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

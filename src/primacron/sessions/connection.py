"""One Engine.IO connection: its transport, heartbeat and outbox."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final, Protocol

from primacron.dialects.base import Dialect
from primacron.entries import Entry
from primacron.errors import ProtocolError, SlowClient
from primacron.ids import AccountId, SessionId, Sid
from primacron.protocol.close_reasons import (
    CLIENT_CLOSE,
    PARSE_ERROR,
    PING_TIMEOUT,
    SHUTDOWN,
    SLOW,
    TRANSPORT_CLOSE,
    TRANSPORT_ERROR,
    CloseReason,
)
from primacron.protocol.engine import (
    ENDED,
    ENFORCED,
    FIRST_BEAT,
    HOLDING,
    Beat,
    Channel,
    Due,
    Heart,
    Phase,
    Pulse,
    Step,
    Verdict,
    advance,
    beat,
    judge,
)
from primacron.protocol.handshake import Format
from primacron.protocol.outgoing import CLOSE, NOOP, PING, PONG, PROBE_PONG, OutgoingPacket
from primacron.protocol.packets import Packet, decode_binary, decode_text
from primacron.sessions.inbox import Inbox
from primacron.sessions.lifecycle import State
from primacron.sessions.runtime import Outlet, Runtime
from primacron.sessions.transport import LongPost, Transport
from primacron.wheel import NEVER, RESOLUTION, Timed

try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython

# Module-level names: looking up a member on its enum takes ten times as long in Python 3.11.
OPEN: Final = Phase.OPEN
CLOSED: Final = Phase.CLOSED
LINGERING: Final = Phase.LINGERING
TRANSPORT: Final = Channel.TRANSPORT
DELIVER: Final = Verdict.DELIVER
CLOSES: Final = Verdict.CLOSE
KEEP, _, TIMEOUT, BOTH = Due

#: Tolerance, in seconds, for floating-point error in the sum of two durations.
_ROUNDING: Final = 1e-6


class Owner(Protocol):
    """What a connection requires of its session."""

    account: AccountId
    id: SessionId
    entry: Entry
    peer: str
    state: State
    inbox: Inbox | None

    @property
    def claimed_account(self) -> str | None:
        """The account named in the handshake's query."""

    def receive(self, message: str | bytes) -> None:
        """Handle a message from the client."""

    def defer(self) -> None:
        """Defer messages to a later turn of the event loop."""

    def problem(self, error: Exception) -> None:
        """Report an error in what the client sent or is being sent."""

    def close(self, reason: CloseReason) -> None:
        """End the session, as its connection has ended."""


class Probe(Timed):
    """A websocket probing for an upgrade; ``reason`` is its close reason if the upgrade times out."""

    if not cython.compiled:
        __slots__ = ("connection", "reason", "transport")

    def __init__(self, connection: Connection, transport: Transport) -> None:
        self.bucket = None
        self.due = NEVER
        self.place = 0
        self.connection = connection
        self.transport = transport
        self.reason = TRANSPORT_ERROR

    def on_due(self, now: float) -> None:
        """Close the websocket, as the upgrade has timed out; polling continues."""
        self.connection.drop_probe(self.transport, self.reason)


class Connection(Outlet):
    """
    The connection of one sid, across its transports.

    A transport calls ``receive``, ``flush`` and ``lose``, and is driven through the
    :class:`Transport` protocol; the session calls ``send``, ``hold``, ``release`` and ``end``.
    """

    if not cython.compiled:
        __slots__ = (
            "backlog",
            "format",
            "heart",
            "is_full",
            "outbox",
            "phase",
            "probe",
            "runtime",
            "session",
            "strikes",
            "transport",
        )

    def __init__(
        self,
        runtime: Runtime,
        sid: Sid,
        session: Owner,
        transport: Transport,
        dialect: Dialect,
        format: Format,
        phase: Phase = OPEN,
    ) -> None:
        self.runtime = runtime
        self.sid = sid
        self.session = session
        self.transport = transport
        self.dialect = dialect
        self.format = format
        self.phase = phase
        self.probe: Probe | None = None
        self.outbox: list[OutgoingPacket] | None = None
        self.waiting = 0
        self.strikes = 0
        #: Whether the session's inbox is full, and the long POST being processed, if any.
        self.is_full = False
        self.backlog: LongPost | None = None
        self.bucket = None
        self.due = NEVER
        self.heart, due = FIRST_BEAT[format.version]
        self._set_due(due)

    # Sending

    def send(self, packet: OutgoingPacket) -> bool:
        """Queue a packet until the end of the tick; False if the connection has ended, or ends because of it."""
        if self.outbox is not None:
            return self._append(self.outbox, packet)
        if self.phase is CLOSED:
            return False
        self.outbox = [packet]
        self.waiting = packet.size
        self.runtime.mark(self)
        return True

    def _append(self, outbox: list[OutgoingPacket], packet: OutgoingPacket) -> bool:
        if self.phase in ENDED:
            return False
        limit = self.runtime.options.outbox_limit
        if self.waiting > limit and self.transport.ready:
            self.flush()
            return self.send(packet)
        waiting = self.waiting + self.transport.backlog()
        if waiting > limit:
            self.fall_behind(SlowClient(waiting, limit))
            return False
        outbox.append(packet)
        self.waiting += packet.size
        if self.runtime.is_blocked(self):
            self.runtime.block(self, packet.size)
            return self.phase not in ENDED
        return True

    def fall_behind(self, error: SlowClient) -> None:
        """End the connection, as too many bytes are queued for a slow client."""
        # In this order: a listener for the error may send again, which must not report it again.
        self.end(SLOW)
        self.session.problem(error)

    def flush(self) -> None:
        """Write the outbox if the transport is ready; otherwise count it as blocked."""
        packets = self.outbox
        if packets is None:
            return
        if self.transport.ready:
            self.runtime.unblock(self)
            self.outbox = None
            self.waiting = 0
            self.transport.write(packets)
            if self.outbox is None and self.phase is LINGERING:
                self._finish()
        elif not self.runtime.is_blocked(self):
            self.runtime.block(self, self.waiting)

    def put_back(self, packets: list[OutgoingPacket]) -> None:
        """Return packets that did not fit into a write to the outbox; the next write sends them first."""
        self.outbox = packets
        self.waiting = sum(packet.size for packet in packets)
        self.runtime.count_blocked(self, self.waiting)

    @property
    def is_stuck(self) -> bool:
        """Whether packets are queued that the client is not taking."""
        return self.outbox is not None and not self.transport.ready

    # Receiving

    def receive_text(self, text: str, transport: Transport) -> None:
        """Handle a text frame of a websocket."""
        if text[:1] == "4" and transport is self.transport:
            self.session.receive(text[1:])
            return
        try:
            self.receive(decode_text(text, self.format.version), transport)
        except ProtocolError as error:
            self.refuse(error, transport)

    def receive_binary(self, data: bytes, transport: Transport) -> None:
        """Handle a binary frame of a websocket."""
        try:
            self.receive(decode_binary(data, self.format.version), transport)
        except ProtocolError as error:
            self.refuse(error, transport)

    def receive(self, packet: Packet, transport: Transport) -> None:
        """
        Process a packet received on the transport or on the probing websocket.

        Raises:
            ProtocolError: if a client may not send this packet on this channel.

        """
        channel = TRANSPORT if transport is self.transport else Channel.PROBE
        self._act(judge(packet, self.format.version, channel), packet, transport)

    def check(self, packets: list[Packet], *, is_last: bool) -> list[Verdict]:
        """
        Return the verdicts on packets of a POST; ``is_last`` if these are the last of it.

        Raises:
            ProtocolError: if a client may not send one of them.

        """
        verdicts = [judge(packet, self.format.version, TRANSPORT) for packet in packets]
        if CLOSES in verdicts and not (is_last and verdicts.index(CLOSES) == len(verdicts) - 1):
            raise ProtocolError("packets behind the one that closes the connection")
        return verdicts

    def receive_payload(self, packets: list[Packet], transport: Transport) -> None:
        """
        Process all packets of a POST, or none if one of them is not allowed.

        Messages for which the turn has no budget left are queued in the session's inbox.
        If the server ends the connection, packets after that point are dropped: the client
        could not know.

        Raises:
            ProtocolError: if a client may not send one of them.

        """
        verdicts = self.check(packets, is_last=True)
        session = self.session
        for place, packet in enumerate(packets):
            if self.phase in ENDED:
                return
            if place and session.inbox is None and self.runtime.turns.is_over():
                session.defer()
            self._act(verdicts[place], packet, transport)

    def receive_backlog(self, backlog: LongPost) -> None:
        """Process a long POST at the pace of the session; nothing else is read meanwhile."""
        self.backlog = backlog
        self._pause()
        if self.session.state is not State.QUIESCED:  # else the packets wait for the outcome of the handoff
            backlog.hand_on()

    def end_backlog(self) -> None:
        """Resume reading, as all of a long POST has been handled or queued."""
        self.backlog = None
        if not self.is_full:
            self._resume()

    def take_rest(self, reason: CloseReason) -> Iterator[str | bytes] | None:
        """Return what is left of an acknowledged POST if ``reason`` means it must still be handled, or discard it."""
        backlog, self.backlog = self.backlog, None
        return None if backlog is None else backlog.end(is_wanted=reason in (TRANSPORT_CLOSE, PING_TIMEOUT, SHUTDOWN))

    def _act(self, verdict: Verdict, packet: Packet, transport: Transport) -> None:
        if verdict is DELIVER:
            self.session.receive(packet.data)
        elif verdict is Verdict.BEAT:
            self._beat(Beat.ANSWER)
        elif verdict is Verdict.CLOSE:
            self.end(CLIENT_CLOSE)
        elif verdict is Verdict.PROBE:
            self.allow_probe(transport)
        elif verdict is Verdict.UPGRADE:
            self._upgrade(transport)

    def refuse(self, error: Exception, transport: Transport, reason: CloseReason = PARSE_ERROR) -> None:
        """React to a protocol violation: drop the probing websocket, or end the connection if it is the transport."""
        self.session.problem(error)
        if transport is self.transport:
            self.end(reason)
        else:
            self.drop_probe(transport, reason)

    def lose(self, transport: Transport) -> None:
        """Handle the loss of a transport: the client closed a websocket or aborted a poll."""
        if transport is self.transport:
            self.end(TRANSPORT_CLOSE)
        elif self.probe is not None and transport is self.probe.transport:
            self._forget_probe(self.probe)

    # The upgrade

    @property
    def may_upgrade(self) -> bool:
        """Whether a websocket may begin to take over."""
        return self.phase is OPEN and self.transport.can_upgrade and self.probe is None

    def begin_probe(self, transport: Transport) -> None:
        """Begin an upgrade to a websocket, which must complete within ``upgrade_timeout``."""
        self.probe = Probe(self, transport)
        self.runtime.wheel.set_after(self.probe, self.runtime.options.upgrade_timeout)

    def drop_probe(self, transport: Transport, reason: CloseReason) -> None:
        """Close a probing websocket; polling continues."""
        if self.probe is not None and transport is self.probe.transport:
            self._forget_probe(self.probe)
            transport.close(reason)

    def allow_probe(self, transport: Transport) -> None:
        """Answer the probe, so that the client may complete the upgrade."""
        self.phase = advance(self.phase, Step.PROBE)
        if transport.ready:
            transport.write([PROBE_PONG])
        # The client stops polling once its pending poll is answered.
        if self.outbox is None and self.transport.ready:
            self.transport.write([NOOP])

    def _upgrade(self, transport: Transport) -> None:
        self.phase = advance(self.phase, Step.UPGRADE)
        if self.phase is CLOSED:
            self._leave_by(transport)
            return
        polling = self.transport
        if self.probe is not None:
            self.runtime.wheel.cancel(self.probe)
        self.probe = None
        self.runtime.unblock(self)
        self.transport = transport
        if polling.ready:
            polling.write([NOOP])
        self.runtime.answers.forget(self.sid)
        if self.is_held:
            transport.pause()
            polling.resume()
        self.flush()

    def give_away(self, reason: CloseReason) -> None:
        """
        End on this node without closing the session, which continues on another node with all that is queued.

        A pending poll is answered, so that the next one is routed to that node. A websocket,
        be it the transport or probing, is closed with ``reason``.

        Raises:
            ProtocolError: if the connection has already ended.

        """
        self.phase = advance(self.phase, Step.MOVE)
        if not self.transport.keeps_for_poll:
            self.transport.close(reason)
        else:
            if self.transport.ready:
                self.transport.write([NOOP])
            self.transport.resume()
        if self.probe is not None:
            self.drop_probe(self.probe.transport, reason)
        self._clear()
        self._drop_backlog()

    def _leave_by(self, transport: Transport) -> None:
        """Send what was kept for the next poll over the websocket that completed its upgrade first."""
        packets = self._last_words()
        if packets and transport.ready:
            transport.write(packets)
        self._clear()

    def leave_elsewhere(self) -> tuple[list[OutgoingPacket], CloseReason]:
        """Return what was kept for the next poll, as a websocket on another node completed its upgrade first."""
        self.phase = advance(self.phase, Step.UPGRADE)
        packets, reason = self._last_words(), TRANSPORT_ERROR if self.probe is None else self.probe.reason
        self._clear()
        return packets, reason

    def _last_words(self) -> list[OutgoingPacket]:
        return [packet for packet in self.outbox or () if packet is not CLOSE]

    def _forget_probe(self, probe: Probe) -> None:
        self.probe = None
        self.runtime.wheel.cancel(probe)
        if self.phase is Phase.PROBING:
            self.phase = advance(self.phase, Step.PROBE_LOST)

    # The heartbeat

    def is_overdue(self, now: float) -> bool:
        """Tell whether the client's deadline has passed, even if the wheel has not fired yet."""
        return self.due <= now + _ROUNDING and self.heart in ENFORCED

    def on_due(self, now: float) -> None:
        """Act on the heartbeat's deadline, or stop lingering."""
        if self.phase in ENDED:
            self._finish()
        else:
            # Count from when the deadline was due, so that consecutive deadlines add up although the wheel fires late:
            # by up to its resolution, the granularity of the loop's clock, and the load.
            late = min(2 * RESOLUTION, self.runtime.options.ping_timeout / 2)
            self._beat(Beat.DUE, max(self.due, now - late))

    @property
    def is_held(self) -> bool:
        """Whether reading from the client is paused."""
        return self.heart in HOLDING

    def hold(self) -> None:
        """Pause reading, as the session is full."""
        self.is_full = True
        self._pause()

    def release(self) -> None:
        """Resume reading, beginning with the rest of a long POST."""
        self.is_full = False
        if self.backlog is not None:
            self.backlog.go_on()
        else:
            self._resume()

    def _pause(self) -> None:
        if not self.is_held:
            self._beat(Beat.HOLD)
            self.transport.pause()

    def _resume(self) -> None:
        if self.phase not in ENDED:
            self._beat(Beat.RELEASE)
            self.transport.resume()

    def resume_heart(self, heart: Heart, due: float | None) -> None:
        """Continue the heartbeat of a connection handed off by another node."""
        if heart in HOLDING:
            heart, _, _ = beat(heart, Beat.RELEASE)
        self.heart = heart
        if due is not None:
            self.runtime.wheel.set(self, due)

    def _beat(self, event: Beat, since: float | None = None) -> None:
        """Apply a heartbeat event; the next deadline counts from ``since``, or from now if None."""
        self.heart, pulse, due = beat(self.heart, event)
        if pulse is Pulse.GIVE_UP:
            self.give_up()
            return
        self._set_due(due, since)
        if pulse is Pulse.SEND_PING:
            self.send(PING)
            extra = self.dialect.write_heartbeat(int(time.time() * 1000))
            if extra is not None:
                self.send(extra)
        elif pulse is Pulse.SEND_PONG:
            self.send(PONG)

    def _set_due(self, due: Due, since: float | None = None) -> None:
        options, wheel = self.runtime.options, self.runtime.wheel
        if due is KEEP:
            if self.bucket is None and self.due != NEVER:
                wheel.set(self, self.due)
            return
        seconds = options.ping_timeout if due is TIMEOUT else options.ping_interval
        if due is BOTH:
            seconds += options.ping_timeout
        if since is None:
            wheel.set_after(self, seconds)
        else:
            wheel.set(self, since + seconds)

    # The end

    def give_up(self) -> None:
        """End the connection, as the client no longer answers."""
        self.end(PING_TIMEOUT)

    def end(self, reason: CloseReason) -> None:
        """End the connection: send what is queued if the transport is ready, then say goodbye."""
        if self.phase in ENDED:
            if self.phase is LINGERING and not reason.sends_rest:
                self._finish()  # no memory to spare for what was kept for the next poll
            return
        self.runtime.wheel.cancel(self)
        goodbye = None if reason.reconnect else self.dialect.write_goodbye()
        if goodbye is not None:
            self.outbox = [*(self.outbox or ()), goodbye]
        if not reason.sends_rest:
            self._drop_outbox()
        if self._must_linger(reason):
            self._linger(reason)
        else:
            self._say_goodbye(reason)
        self.session.close(reason)
        self._drop_backlog()

    def _drop_backlog(self) -> None:
        backlog, self.backlog = self.backlog, None
        if backlog is not None:
            backlog.drop()

    def _must_linger(self, reason: CloseReason) -> bool:
        return reason.lingers and self.transport.keeps_for_poll and not self.transport.ready

    def _linger(self, reason: CloseReason) -> None:
        """Keep the last packets for the next poll, for at most one heartbeat."""
        if self.probe is not None:
            # A client whose probe was answered may never poll again, so its websocket may collect them as well.
            self.probe.reason = reason
            if self.phase is OPEN:
                self.drop_probe(self.probe.transport, reason)
        self.outbox = [*(self.outbox or ()), CLOSE]
        self._wait_for_poll()

    def _wait_for_poll(self) -> None:
        self.phase = advance(self.phase, Step.LINGER)
        self.runtime.wheel.set_after(self, self.runtime.options.ping_interval + self.runtime.options.ping_timeout)
        if self.is_held:
            self.transport.resume()  # so that a POST that has not been read yet is refused

    def _say_goodbye(self, reason: CloseReason) -> None:
        if self.probe is not None:
            self.drop_probe(self.probe.transport, reason)
        if reason.says_goodbye and self.transport.keeps_for_poll:
            self.outbox = [*(self.outbox or ()), CLOSE]
        if self.transport.ready:
            self.flush()
        if reason.lingers and self.transport.keeps_for_poll and self.outbox is not None:
            self._wait_for_poll()  # not all of it fitted into the response to this poll
            return
        self.transport.close(reason)
        self._finish()

    def _finish(self) -> None:
        self.phase = advance(self.phase, Step.CLOSE)
        self._clear()

    def _clear(self) -> None:
        """Release everything that belongs to the connection."""
        if self.probe is not None:
            self.drop_probe(self.probe.transport, self.probe.reason)
        self._drop_outbox()
        self.runtime.wheel.cancel(self)
        self.runtime.answers.forget(self.sid)
        self.runtime.remove(self)

    def _drop_outbox(self) -> None:
        self.runtime.unblock(self)
        self.outbox = None
        self.waiting = 0

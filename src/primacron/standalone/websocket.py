"""One websocket on its transport: frames, pings, compression and the closing handshake."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from primacron.errors import FrameError, TooMuchInput
from primacron.standalone.deflate import Agreement, Deflater, Inflater
from primacron.standalone.direct_write import push, write_end
from primacron.standalone.frames import CLOSE, PING, PONG, FrameReader, decode_close, encode_close, encode_frame
from primacron.turns import MUCH

try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython

if TYPE_CHECKING:
    from primacron.standalone.listener import Listener

#: Seconds a client has for its side of the closing handshake, and then to read our last frames.
CLOSE_TIMEOUT: Final = 2.0
#: Seconds without input after which a client counts as done, if the connection cannot be half-closed.
QUIET: Final = 0.2

# Why reading is paused: flags of ``halted``. The event loop is paused as well, so that the input kept cannot grow.
#: Back pressure from the session.
HELD: Final = 1
#: The turn is over.
DEFERRED: Final = 2
#: Nothing will be read any more.
ENDED: Final = 4


class FrameStream(FrameReader):
    """
    A websocket; subclasses supply ``on_text``, ``on_binary``, ``on_lost`` and ``on_broken``.

    Meant to be combined with :class:`asyncio.BufferedProtocol`. ``ready`` tells
    whether the client can take data now.
    """

    if not cython.compiled:
        __slots__ = (
            "_closing",
            "_deflater",
            "_fd",
            "_head",
            "_holds_input",
            "_is_behind",
            "_listener",
            "_pongs",
            "_transport",
            "ready",
        )

    def __init__(
        self, listener: Listener, transport: asyncio.Transport, fd: int, head: bytes, agreement: Agreement | None
    ) -> None:
        super().__init__(listener.frames, Inflater(agreement) if agreement else None)
        self._deflater = Deflater(agreement) if agreement else None
        self._listener = listener
        # None once nothing may be written any more.
        self._transport: asyncio.Transport | None = transport
        # The 101 response, sent together with the first write.
        self._head: bytes | None = head
        self._pongs: list[bytes] | None = None
        # Whether our close frame is sent and the client's is awaited.
        self._closing = False
        self._fd = fd
        # Whether the event loop holds data that must be written first.
        self._is_behind = True
        # Whether this websocket is counted as holding unfinished input.
        self._holds_input = False
        self.ready = True

    # Event loop callbacks

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the read buffer that all connections share."""
        return self.settings.view

    def buffer_updated(self, nbytes: int) -> None:
        """Parse the input."""
        if nbytes > MUCH:
            self._read_much(nbytes)
        else:
            self._read(nbytes)

    def _read(self, nbytes: int) -> None:
        try:
            self.feed(self.settings.buffer, nbytes)
        except FrameError as error:
            self._break(error)
        except Exception as error:
            self._fail(error)
        if (self._holds_input or self.partial is not None or self.rest is not None) and self._transport is not None:
            self.count_input()
        if self._pongs is not None:
            self.send_pongs()

    def _read_much(self, nbytes: int) -> None:
        if not self.halted and self._listener.turns.is_over():
            self.defer(fresh=True)
        self._read(nbytes)
        # More is waiting: uvloop would read it in this same turn, up to 32 times.
        if nbytes == len(self.settings.buffer) and not self.halted:
            self.defer()

    def has_had_turn(self) -> bool:
        """Defer the rest if the turn is over."""
        if self._listener.turns.is_over():
            self.defer()
            return True
        return False

    def defer(self, *, fresh: bool = False) -> None:
        """Postpone parsing to a later turn; see :meth:`primacron.turns.Turns.defer`."""
        if self.halted & (DEFERRED | ENDED):
            return
        self.halted |= DEFERRED
        if self._transport is not None:
            self._transport.pause_reading()
        self._listener.turns.defer(self.read_rest, fresh)

    def read_rest(self) -> None:
        """Parse the deferred input before any more is read."""
        self.halted &= ~DEFERRED
        if self.halted & ENDED:
            return
        try:
            self.feed_rest()
        except FrameError as error:
            self._break(error)
        except Exception as error:
            self._fail(error)
        if (self._holds_input or self.partial is not None or self.rest is not None) and self._transport is not None:
            self.count_input()
        if self._pongs is not None:
            self.send_pongs()
        self._read_on()

    def _read_on(self) -> None:
        """Resume reading unless something still holds it back."""
        transport = self._transport
        if self.halted & DEFERRED:
            return
        if transport is None:
            self._lose()
        elif not self.halted and not transport.is_closing():
            transport.resume_reading()

    def count_input(self) -> None:
        """Report how much is held of a partial message, or of messages not yet accepted."""
        size = len(self.rest) if self.rest is not None else 0
        if self.partial is not None:
            size += len(self.partial.data)
        self._holds_input = size > 0
        if size:
            self._listener.unfinished.hold(self, size)
        else:
            self._listener.unfinished.release(self)

    def overflow(self, error: TooMuchInput) -> None:
        """Close the websocket: too much unfinished input is held, most of it here."""
        self._holds_input = False
        self._break(error)

    def eof_received(self) -> None:
        """Let the transport close."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Record that the client is gone; input that is merely deferred is parsed first."""
        self._transport = None
        self._listener.forget(self)
        if self.halted != DEFERRED:
            self._lose()

    def _lose(self) -> None:
        self._forget()
        self.on_lost()

    def pause_writing(self) -> None:
        """Record that the client is not keeping up."""
        self.ready = False

    def resume_writing(self) -> None:
        """Resume, with the pongs that were held back."""
        self.ready = True
        self.send_pongs()

    # Frame callbacks

    def on_control(self, opcode: int, payload: bytes) -> None:
        """Answer pings and the closing handshake."""
        if opcode == CLOSE:
            self._take_close(payload)
        elif opcode == PING and not self._closing:
            self._add_pong(encode_frame(PONG, payload))

    def _add_pong(self, pong: bytes) -> None:
        if self._pongs is None or not self.ready:
            self._pongs = [pong]  # to a client that is not reading, the latest is enough (RFC 6455, 5.5.3)
        else:
            self._pongs.append(pong)

    def _take_close(self, payload: bytes) -> None:
        decode_close(payload)
        if not self._closing:
            self.send_pongs()
            self.put([encode_frame(CLOSE, payload[:2])])
        self._drain(is_done=True)
        self.on_lost()

    def _break(self, error: FrameError) -> None:
        """Close after a protocol violation: what follows cannot be parsed."""
        if not self._closing:
            self.on_broken(error)
        self._drain(is_done=False)
        self.on_lost()

    def _fail(self, error: Exception) -> None:
        """Close after an internal error."""
        if not self._closing:
            self.on_failed(error)
        self._drain(is_done=False)
        self.on_lost()

    def on_failed(self, error: Exception) -> None:
        """Report an internal error and send a close frame."""
        self._listener.routes.problem(error)
        self.say_goodbye(1011, "internal error")

    def on_broken(self, error: FrameError) -> None:
        """Send a close frame to a client that broke the protocol."""
        self.say_goodbye(error.code, str(error))

    def on_lost(self) -> None:
        """Handle the end: no more messages will arrive. May be called more than once."""

    # For the consumer of the messages

    def send_pongs(self) -> None:
        """Answer pending pings."""
        if self._pongs is not None and self.ready:
            pongs, self._pongs = self._pongs, None
            self.put(pongs)

    def put(self, frames: list[bytes]) -> None:
        """Write frames in a single piece."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._head is not None:
            frames = [self._head, *frames]
            self._head = None
        self.push(transport, b"".join(frames) if len(frames) > 1 else frames[0])

    def push(self, transport: asyncio.Transport, data: bytes) -> None:
        """Write one piece of data."""
        self._is_behind = push(transport, self._fd, self._is_behind, data)

    def backlog(self) -> int:
        """Return the number of bytes written but not sent yet."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def begin_with(self, rest: bytearray) -> None:
        """Parse the input that arrived with the handshake first."""
        self.rest = rest
        self.defer()

    def pause(self) -> None:
        """Stop reading from the client."""
        self.halted |= HELD
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Resume reading, starting with the input kept."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self.halted &= ~HELD
        if self.rest is not None:
            self.defer()
        else:
            self._read_on()

    def say_goodbye(self, code: int, text: str) -> None:
        """Send a close frame and give the client a moment to reply; one that is not reading is cut off."""
        transport = self._transport
        if transport is None or transport.is_closing() or self._closing:
            return
        if not self.ready:
            self._forget()
            transport.abort()
            return
        self.send_pongs()
        self.put([encode_close(code, text)])
        self._closing = True
        self._listener.open.add(self)
        self._listener.loop.call_later(CLOSE_TIMEOUT, transport.abort)
        self.resume()

    def close_when_idle(self) -> None:
        """Leave the closing handshake to the client, within its timeout."""

    def abort(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()

    def _drain(self, *, is_done: bool) -> None:
        transport = self._transport
        self._forget()
        if transport is not None:
            self._listener.open.discard(self)
            Draining(self._listener, transport, is_done=is_done)

    def _forget(self) -> None:
        self._transport = None
        self.halted |= ENDED
        self.ready = False
        self.rest = self.partial = None
        if self._holds_input:
            self.count_input()


class Draining(asyncio.BufferedProtocol):
    """
    A websocket after its last frame: the client may still read, and its input is discarded.

    If it were closed with unread input, the kernel would reset the connection, and
    the client might never see the last frames (RFC 6455, 7.1.1).
    """

    __slots__ = ("_listener", "_quiet", "_timer", "_transport")

    def __init__(self, listener: Listener, transport: asyncio.Transport, *, is_done: bool) -> None:
        self._listener = listener
        self._transport = transport
        self._timer = listener.loop.call_later(CLOSE_TIMEOUT, transport.abort)
        self._quiet: asyncio.TimerHandle | None = None
        listener.open.add(self)
        transport.set_protocol(self)
        if transport.is_closing():
            return
        if transport.can_write_eof():
            write_end(transport)
            transport.resume_reading()
        elif is_done:
            transport.close()
        else:
            transport.resume_reading()
            self._close_when_quiet()

    def _close_when_quiet(self) -> None:
        if self._quiet is not None:
            self._quiet.cancel()
        self._quiet = self._listener.loop.call_later(QUIET, self._transport.close)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the read buffer that all connections share."""
        return self._listener.frames.view

    def buffer_updated(self, nbytes: int) -> None:
        """Discard the input."""
        if self._quiet is not None:
            self._close_when_quiet()

    def eof_received(self) -> None:
        """Let the transport close."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers and leave the listener."""
        self._timer.cancel()
        if self._quiet is not None:
            self._quiet.cancel()
        self._listener.forget(self)

    def close_when_idle(self) -> None:
        """Leave the end to the client, within its timeout."""

    def abort(self) -> None:
        """Drop the connection."""
        self._transport.abort()

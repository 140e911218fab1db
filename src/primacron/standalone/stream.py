"""One websocket on its transport: frames, pings, compression, and the closing handshake."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from primacron.errors import FrameError, TooMuchInput
from primacron.standalone.deflate import Agreement, Deflater, Inflater
from primacron.standalone.frames import CLOSE, PING, PONG, FrameReader, decode_close, encode_close, encode_frame
from primacron.standalone.sending import push, write_end
from primacron.turns import MUCH

try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython

if TYPE_CHECKING:
    from primacron.standalone.listener import Listener

#: Seconds that a client has for its side of the closing handshake, and then for reading the last of ours.
CLOSE_TIMEOUT: Final = 2.0
#: Seconds without input after which a client counts as done, where the connection cannot be closed in one direction.
QUIET: Final = 0.2

# Why nothing is read, in ``halted``. Nothing comes from the event loop either, so that what was fed cannot grow.
#: The session has enough to do.
HELD: Final = 1
#: Others have their turn.
DEFERRED: Final = 2
#: Nothing will be read any more.
ENDED: Final = 4


class FrameStream(FrameReader):
    """
    A websocket whose messages somebody takes: a subclass has ``on_text``, ``on_binary``, ``on_lost``, ``on_broken``.

    It is to be mixed with :class:`asyncio.BufferedProtocol`. ``ready`` tells
    whether the client takes data now.
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
        # None from the moment on when nothing may be written any more.
        self._transport: asyncio.Transport | None = transport
        # The answer to the handshake, until the first write takes it along.
        self._head: bytes | None = head
        self._pongs: list[bytes] | None = None
        # Whether our close frame has left, and the client's is awaited.
        self._closing = False
        self._fd = fd
        # Whether the event loop still has data that must leave first.
        self._is_behind = True
        # Whether a part of a message is counted.
        self._holds_input = False
        self.ready = True

    # From the event loop

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer that all connections are read into."""
        return self.settings.view

    def buffer_updated(self, nbytes: int) -> None:
        """Read what has come."""
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
        # More is there: uvloop would read it in this turn, up to 32 times.
        if nbytes == len(self.settings.buffer) and not self.halted:
            self.defer()

    def has_had_turn(self) -> bool:
        """Leave the rest for a later turn if this one is over."""
        if self._listener.turns.is_over():
            self.defer()
            return True
        return False

    def defer(self, *, fresh: bool = False) -> None:
        """Read on in a later turn; see :meth:`primacron.turns.Turns.defer`."""
        if self.halted & (DEFERRED | ENDED):
            return
        self.halted |= DEFERRED
        if self._transport is not None:
            self._transport.pause_reading()
        self._listener.turns.defer(self.read_rest, fresh)

    def read_rest(self) -> None:
        """Read what had come before somebody wanted it; more comes only behind that."""
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
        """Let the event loop read again, once nothing stands against it."""
        transport = self._transport
        if self.halted & DEFERRED:
            return
        if transport is None:
            self._lose()
        elif not self.halted and not transport.is_closing():
            transport.resume_reading()

    def count_input(self) -> None:
        """Take note of how much of a message, or of several that nobody wants yet, is kept."""
        size = len(self.rest) if self.rest is not None else 0
        if self.partial is not None:
            size += len(self.partial.data)
        self._holds_input = size > 0
        if size:
            self._listener.unfinished.hold(self, size)
        else:
            self._listener.unfinished.release(self)

    def overflow(self, error: TooMuchInput) -> None:
        """End: see :class:`primacron.sessions.unfinished.Sender`."""
        self._holds_input = False
        self._break(error)

    def eof_received(self) -> None:
        """Let the transport close."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note that the client is gone; what it had sent and only waits for its turn is read first."""
        self._transport = None
        self._listener.forget(self)
        if self.halted != DEFERRED:
            self._lose()

    def _lose(self) -> None:
        self._forget()
        self.on_lost()

    def pause_writing(self) -> None:
        """Take note that the client is behind."""
        self.ready = False

    def resume_writing(self) -> None:
        """Go on."""
        self.ready = True
        self.send_pongs()

    # From the frames

    def on_control(self, opcode: int, payload: bytes) -> None:
        """Answer pings and the closing handshake."""
        if opcode == CLOSE:
            self._take_close(payload)
        elif opcode == PING and not self._closing:
            self._add_pong(encode_frame(PONG, payload))

    def _add_pong(self, pong: bytes) -> None:
        if self._pongs is None or not self.ready:
            self._pongs = [pong]  # of a client that takes no data the last one is enough (RFC 6455, 5.5.3)
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
        """Close because of a broken rule: what comes after it cannot be read."""
        if not self._closing:
            self.on_broken(error)
        self._drain(is_done=False)
        self.on_lost()

    def _fail(self, error: Exception) -> None:
        """Close because of a mistake of the server."""
        if not self._closing:
            self.on_failed(error)
        self._drain(is_done=False)
        self.on_lost()

    def on_failed(self, error: Exception) -> None:
        """Tell of a mistake of the server, and say goodbye."""
        self._listener.routes.problem(error)
        self.say_goodbye(1011, "internal error")

    def on_broken(self, error: FrameError) -> None:
        """Say goodbye to a client that broke a rule."""
        self.say_goodbye(error.code, str(error))

    def on_lost(self) -> None:
        """Take note that no message will come any more; called once or more often."""

    # For who takes the messages

    def send_pongs(self) -> None:
        """Answer the pings that have come."""
        if self._pongs is not None and self.ready:
            pongs, self._pongs = self._pongs, None
            self.put(pongs)

    def put(self, frames: list[bytes]) -> None:
        """Write frames, in one piece."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._head is not None:
            frames = [self._head, *frames]
            self._head = None
        self.push(transport, b"".join(frames) if len(frames) > 1 else frames[0])

    def push(self, transport: asyncio.Transport, data: bytes) -> None:
        """Write one piece."""
        self._is_behind = push(transport, self._fd, self._is_behind, data)

    def backlog(self) -> int:
        """Return how many bytes were written and have not left yet."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def begin_with(self, rest: bytearray) -> None:
        """Read first what came together with the handshake."""
        self.rest = rest
        self.defer()

    def pause(self) -> None:
        """Stop reading from the client."""
        self.halted |= HELD
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again, first what had come before."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self.halted &= ~HELD
        if self.rest is not None:
            self.defer()
        else:
            self._read_on()

    def say_goodbye(self, code: int, text: str) -> None:
        """Say why it ends, and give the client a moment to agree; one that takes no data is cut off."""
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
        """Leave the closing handshake to the client, for as long as it may take."""

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
    The last moments of a websocket: the client reads what was written, what it still sends is thrown away.

    Closed with input unread, the system would reset the connection, and the
    client might never see the last frames (RFC 6455, 7.1.1).
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
        """Return the buffer that all connections are read into."""
        return self._listener.frames.view

    def buffer_updated(self, nbytes: int) -> None:
        """Throw away what has come."""
        if self._quiet is not None:
            self._close_when_quiet()

    def eof_received(self) -> None:
        """Let the transport close."""

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._timer.cancel()
        if self._quiet is not None:
            self._quiet.cancel()
        self._listener.forget(self)

    def close_when_idle(self) -> None:
        """Leave the end to the client, for as long as it may take."""

    def abort(self) -> None:
        """Drop the connection."""
        self._transport.abort()

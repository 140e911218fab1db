"""The fast path for writes: straight to the socket, as the event loop costs more than the system call."""

from __future__ import annotations

import asyncio

try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython

#: Stands for a missing descriptor: all writes go through the event loop.
NO_DESCRIPTOR = -1


if not cython.compiled:

    def send_now(_fd: int, _data: bytes) -> int:
        """Write directly to a socket; return how many bytes it took. Plain Python leaves that to the event loop."""
        return 0


def find_descriptor(transport: asyncio.Transport, *, secure: bool) -> int:
    """Return the descriptor for direct writes; none over TLS, where data must be encrypted first."""
    fd: int = NO_DESCRIPTOR if secure else transport.get_extra_info("socket").fileno()
    return fd


def push(transport: asyncio.Transport, fd: int, is_behind: bool, data: bytes) -> bool:
    """
    Write one piece of data, directly to the socket if possible.

    ``is_behind`` tells whether the event loop holds data that must be written
    first; the new value is returned. The descriptor stays valid until
    ``connection_lost``, whoever closes the connection.
    """
    if is_behind and transport.get_write_buffer_size() == 0:
        is_behind = False
    if not is_behind and fd >= 0:
        done = send_now(fd, data)
        if done == len(data):
            return False
        # The socket is full or broken; the event loop handles either.
        data = data[max(done, 0) :]
    transport.write(data)
    return True


def write_end(transport: asyncio.Transport) -> None:
    """Half-close the connection; input can still be read."""
    try:
        transport.write_eof()
    except OSError:  # asyncio's own loop: the client is gone, as the next read will show
        return

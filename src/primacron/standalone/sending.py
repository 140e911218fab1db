"""The shortest way of bytes to a client: past the event loop, which costs more than the system itself."""

from __future__ import annotations

import asyncio

try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython

#: In the place of a descriptor: everything goes through the event loop.
NO_DESCRIPTOR = -1


if not cython.compiled:

    def send_now(_fd: int, _data: bytes) -> int:
        """Hand data to the system; return how many bytes it took. Plain Python leaves that to the event loop."""
        return 0


def find_descriptor(transport: asyncio.Transport, *, secure: bool) -> int:
    """Return where the data of a connection may go at once; over TLS it must be encrypted first."""
    fd: int = NO_DESCRIPTOR if secure else transport.get_extra_info("socket").fileno()
    return fd


def push(transport: asyncio.Transport, fd: int, is_behind: bool, data: bytes) -> bool:
    """
    Write one piece of data.

    ``is_behind`` tells whether the event loop had data that must leave first,
    and so does what is returned. The descriptor is that of the connection until
    ``connection_lost``, whoever closes it.
    """
    if is_behind and transport.get_write_buffer_size() == 0:
        is_behind = False
    if not is_behind and fd >= 0:
        done = send_now(fd, data)
        if done == len(data):
            return False
        # It has no room, or is broken, which the event loop will find out itself.
        data = data[max(done, 0) :]
    transport.write(data)
    return True


def write_end(transport: asyncio.Transport) -> None:
    """Write nothing more, where that can be told apart from closing; what still comes can be read."""
    try:
        transport.write_eof()
    except OSError:  # of asyncio's own loop: the client is gone, which is read next
        return

"""The sockets that a server listens on."""

from __future__ import annotations

import contextlib
import errno
import socket
from pathlib import Path
from typing import Final

_ATTEMPTS: Final = 10


def bind(host: str | None, port: int, *, reuse_port: bool = False) -> list[socket.socket]:
    """
    Return sockets bound to all addresses of a host, on one port; None means every address of the machine.

    Raises:
        OSError: naming the address that is taken or unavailable.

    """
    for attempt in range(_ATTEMPTS):
        try:
            return _bind_all(_addresses(host, port), reuse_port=reuse_port)
        except OSError:
            # With port 0 the kernel picks a port for the first address; it may be taken on another.
            if port != 0 or attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def _addresses(host: str | None, port: int) -> list[tuple[socket.AddressFamily, str, int]]:
    if host is None or host == "":
        if socket.has_dualstack_ipv6():
            return [(socket.AF_INET6, "", port)]
        return [(socket.AF_INET, "", port)]
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise OSError(error.errno, f"cannot listen on {host}: {error.strerror}") from None
    return list(dict.fromkeys((family, str(address[0]), port) for family, _, _, _, address in found))


def _bind_all(addresses: list[tuple[socket.AddressFamily, str, int]], *, reuse_port: bool) -> list[socket.socket]:
    bound: list[socket.socket] = []
    port = addresses[0][2]
    try:
        for family, host, _ in addresses:
            bound.append(_bind_one(family, host, port, reuse_port=reuse_port))
            port = bound[0].getsockname()[1]
    except OSError:
        for each in bound:
            each.close()
        raise
    return bound


def _bind_one(family: socket.AddressFamily, host: str, port: int, *, reuse_port: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1 if host else 0)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on {host or '*'}:{port}: {error.strerror}") from None
    return sock


def bind_path(path: str) -> socket.socket:
    """
    Return a Unix socket bound to a path; a stale one, left by a dead process, is removed first.

    Raises:
        OSError: naming the path that is taken or unavailable.

    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_abandoned(path):
            Path(path).unlink()
        sock.bind(path)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on {path}: {error.strerror}") from None
    return sock


def _is_abandoned(path: str) -> bool:
    if not Path(path).is_socket():
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(path) == errno.ECONNREFUSED


def is_loopback(sock: socket.socket) -> bool:
    """Tell whether the socket is reachable from this machine only."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return True
    host = str(sock.getsockname()[0])
    return host.startswith("127.") or host == "::1"

"""
Identifiers of accounts, sessions, connections and nodes.

An account and a session id are text that applications choose or see; a sid is
the secret identifier of one Engine.IO connection. A sid contains a routing hint
for its node and a keyed checksum, so that a forged one is refused without asking
any other node::

    hint (8 characters) + random (16, 96 bits) + checksum (6, 32 bits)
"""

from __future__ import annotations

import binascii
import hashlib
import os
import re
import secrets
from collections.abc import Iterable
from typing import Final, NewType

AccountId = NewType("AccountId", str)
SessionId = NewType("SessionId", str)
Sid = NewType("Sid", str)
NodeId = NewType("NodeId", str)

MAX_ID: Final = 128

_HINT: Final = 8
_BODY: Final = 24
_SID: Final = re.compile(r"[A-Za-z0-9_-]{30}", re.ASCII)
# Control characters and lone surrogates; U+FFFD is what broken percent-encoding decodes to.
_FORBIDDEN: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffd]")


_URLSAFE: Final = bytes.maketrans(b"+/", b"-_")


try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython

#: Random bytes fetched at a time.
_CHUNK: Final = 4096


class _Randomness:
    """Buffers random bytes from the system, since ids are made by the thousand."""

    if not cython.compiled:
        __slots__ = ("_bytes", "_next")

    def __init__(self) -> None:
        self._bytes = b""
        self._next = 0
        # A forked child must not hand out the same bytes.
        os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        """Discard the buffer."""
        self._bytes = b""
        self._next = 0

    def take(self, size: int) -> bytes:
        """Return random bytes that are never handed out again."""
        if self._next + size > len(self._bytes):
            self._bytes = os.urandom(_CHUNK)
            self._next = 0
        first, self._next = self._next, self._next + size
        return self._bytes[first : self._next]


_randomness: Final = _Randomness()


def _spell(data: bytes) -> str:
    """Encode bytes as URL-safe base64; three make four characters."""
    return binascii.b2a_base64(data, newline=False).translate(_URLSAFE).decode("ascii")


def is_usable_id(text: str) -> bool:
    """Tell whether the text is a valid account or session id: 1 to 128 characters, no control characters."""
    return 0 < len(text) <= MAX_ID and not _FORBIDDEN.search(text)


def new_session_id() -> SessionId:
    """Return a session id of 144 random bits."""
    return SessionId(_spell(_randomness.take(18)))


def new_node_id() -> NodeId:
    """Return a node id of 96 random bits."""
    return NodeId(_spell(_randomness.take(12)))


def is_well_formed_sid(text: str) -> bool:
    """Tell whether some node could have issued this sid."""
    return _SID.fullmatch(text) is not None


def derive_key(secret: str) -> bytes:
    """Derive the checksum key of a secret; it does not reveal the secret."""
    return hashlib.blake2s(secret.encode(), digest_size=32, person=b"sid").digest()


class Keyring:
    """
    The keys of sid checksums, shared by all nodes of a cluster.

    A node signs with the first key and accepts every key it has ever learned. If it
    has learned none it signs with its ``candidate``, which from then on is a key like
    the others.
    """

    if not cython.compiled:
        __slots__ = ("_macs", "candidate")

    def __init__(self, *keys: bytes) -> None:
        self._macs: dict[bytes, hashlib.blake2s] = {}
        self.candidate = secrets.token_bytes(32)
        self.learn(keys)

    @property
    def keys(self) -> list[bytes]:
        """The keys; the first one signs."""
        return list(self._macs)

    def learn(self, keys: Iterable[bytes]) -> None:
        """Add keys, in their order, ahead of those already known."""
        known = dict.fromkeys([*keys, *self._macs])
        if [*known] != [*self._macs]:
            self._macs = {key: hashlib.blake2s(key=key, digest_size=4) for key in known}

    def sign(self, body: str) -> str:
        """Return the checksum of a text."""
        if not self._macs:
            self.learn([self.candidate])
        return _checksum(next(iter(self._macs.values())), body)

    def accepts(self, body: str, checksum: str) -> bool:
        """Tell whether a checksum was made with one of the keys."""
        return any(secrets.compare_digest(_checksum(mac, body), checksum) for mac in self._macs.values())


def _checksum(mac: hashlib.blake2s, body: str) -> str:
    mac = mac.copy()
    mac.update(body.encode("ascii"))
    return _spell(mac.digest())[:6]


class SidIssuer:
    """Issues the sids of one node, and recognises those of the cluster."""

    if not cython.compiled:
        __slots__ = ("_keyring", "hint")

    def __init__(self, keyring: Keyring) -> None:
        self.hint = _spell(_randomness.take(_HINT * 3 // 4))
        self._keyring = keyring

    def issue(self) -> Sid:
        """Issue a new sid."""
        body = self.hint + _spell(_randomness.take(12))
        return Sid(body + self._keyring.sign(body))

    def is_genuine(self, sid: str) -> bool:
        """Tell whether some node of the cluster issued the sid."""
        return is_well_formed_sid(sid) and self._keyring.accepts(sid[:_BODY], sid[_BODY:])

    def is_ours(self, sid: str) -> bool:
        """Tell whether this node issued the sid."""
        return sid.startswith(self.hint) and self.is_genuine(sid)


def hint_of(sid: str) -> str:
    """Return the hint in a sid at the node that issued it."""
    return sid[:_HINT]

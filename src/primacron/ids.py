"""
Names of things: accounts, sessions, connections and nodes.

An account and a session id are text that applications choose or see; a sid is
the secret name of one Engine.IO connection. A sid carries a routing hint of
its node and a keyed checksum, so that a forged one is refused without asking
anybody::

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
# Controls and lone surrogates; U+FFFD is what a broken percent-encoding decodes to.
_FORBIDDEN: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffd]")


_URLSAFE: Final = bytes.maketrans(b"+/", b"-_")


try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython

#: Random bytes that are asked for at a time.
_CHUNK: Final = 4096


class _Randomness:
    """Random bytes of the system, asked for many at a time: names are made by the thousand."""

    if not cython.compiled:
        __slots__ = ("_bytes", "_next")

    def __init__(self) -> None:
        self._bytes = b""
        self._next = 0
        # A process and its child must not hand out the same ones.
        os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        """Throw away what was asked for."""
        self._bytes = b""
        self._next = 0

    def take(self, size: int) -> bytes:
        """Return random bytes that nobody else gets."""
        if self._next + size > len(self._bytes):
            self._bytes = os.urandom(_CHUNK)
            self._next = 0
        first, self._next = self._next, self._next + size
        return self._bytes[first : self._next]


_randomness: Final = _Randomness()


def _spell(data: bytes) -> str:
    """Return bytes in URL-safe base64; three make four characters."""
    return binascii.b2a_base64(data, newline=False).translate(_URLSAFE).decode("ascii")


def is_usable_id(text: str) -> bool:
    """Tell whether the text may name an account or a session: 1 to 128 characters, no controls."""
    return 0 < len(text) <= MAX_ID and not _FORBIDDEN.search(text)


def new_session_id() -> SessionId:
    """Return a session id of 144 random bits."""
    return SessionId(_spell(_randomness.take(18)))


def new_node_id() -> NodeId:
    """Return a node id of 96 random bits."""
    return NodeId(_spell(_randomness.take(12)))


def is_well_formed_sid(text: str) -> bool:
    """Tell whether some node may have issued this sid."""
    return _SID.fullmatch(text) is not None


def derive_key(secret: str) -> bytes:
    """Return the key of checksums that belongs to a secret, which does not tell the secret."""
    return hashlib.blake2s(secret.encode(), digest_size=32, person=b"sid").digest()


class Keyring:
    """
    The keys of the checksums in sids, which all nodes of a cluster share.

    A node signs with the first key and accepts each that it has ever seen. One that
    has seen none signs with its ``candidate``, which is a key like the others from
    then on.
    """

    if not cython.compiled:
        __slots__ = ("_macs", "candidate")

    def __init__(self, *keys: bytes) -> None:
        self._macs: dict[bytes, hashlib.blake2s] = {}
        self.candidate = secrets.token_bytes(32)
        self.learn(keys)

    @property
    def keys(self) -> list[bytes]:
        """The keys, the one that signs first."""
        return list(self._macs)

    def learn(self, keys: Iterable[bytes]) -> None:
        """Add keys; those given come first, in their order, before those that were there."""
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
        """Return a new sid of this node."""
        body = self.hint + _spell(_randomness.take(12))
        return Sid(body + self._keyring.sign(body))

    def is_genuine(self, sid: str) -> bool:
        """Tell whether some node of the cluster issued the sid."""
        return is_well_formed_sid(sid) and self._keyring.accepts(sid[:_BODY], sid[_BODY:])

    def is_ours(self, sid: str) -> bool:
        """Tell whether this node issued the sid."""
        return sid.startswith(self.hint) and self.is_genuine(sid)


def hint_of(sid: str) -> str:
    """Return what a sid tells of the node that issued it."""
    return sid[:_HINT]

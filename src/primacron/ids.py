"""
Names of things: accounts, sessions, connections and nodes.

An account and a session id are text that applications choose or see; a sid is
the secret name of one Engine.IO connection. A sid carries a routing hint of
its node and a keyed checksum, so that a forged one is refused without asking
anybody::

    hint (8 characters) + random (16, 96 bits) + checksum (6, 32 bits)
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
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


def is_usable_id(text: str) -> bool:
    """Tell whether the text may name an account or a session: 1 to 128 characters, no controls."""
    return 0 < len(text) <= MAX_ID and not _FORBIDDEN.search(text)


def new_session_id() -> SessionId:
    """Return a session id of 144 random bits."""
    return SessionId(secrets.token_urlsafe(18))


def new_node_id() -> NodeId:
    """Return a node id of 96 random bits."""
    return NodeId(secrets.token_urlsafe(12))


def is_well_formed_sid(text: str) -> bool:
    """Tell whether some node may have issued this sid."""
    return _SID.fullmatch(text) is not None


class SidIssuer:
    """Issues the sids of one node and recognises them again."""

    __slots__ = ("_hint", "_mac")

    def __init__(self, key: bytes) -> None:
        self._hint = secrets.token_urlsafe(_HINT * 3 // 4)
        self._mac = hashlib.blake2s(key=key, digest_size=4)

    def issue(self) -> Sid:
        """Return a new sid of this node."""
        body = self._hint + secrets.token_urlsafe(12)
        return Sid(body + self._checksum(body))

    def is_ours(self, sid: str) -> bool:
        """Tell whether this node issued the sid."""
        if not is_well_formed_sid(sid) or not sid.startswith(self._hint):
            return False
        return secrets.compare_digest(sid[_BODY:], self._checksum(sid[:_BODY]))

    def _checksum(self, body: str) -> str:
        mac = self._mac.copy()
        mac.update(body.encode("ascii"))
        return base64.urlsafe_b64encode(mac.digest())[:6].decode("ascii")

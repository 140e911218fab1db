"""
The names of all keys and channels in Redis.

Variable parts are percent-encoded, so that names cannot collide; keys that one
script touches share a hash tag, so that a Redis Cluster keeps them in one slot::

    <namespace>:{nodes}:leases              hash    node -> expiry of its lease in ms, what it advertises
    <namespace>:{nodes}:keys                hash    cluster key -> when it was added, in ms
    <namespace>:{nodes}:attended            string  a number that changes whenever a node begins to attend
    <namespace>:account:{<account>}         hash    session -> node, generation, sid
    <namespace>:set:{<account>}:<session>:<kind>
                                            set     what a feature stores for the session, kept for its return
    <namespace>:index:{<node>}              set     account and session of each entry of the node, perhaps of others
    <namespace>:sid:{<sid>}                 string  account and session of a connection that has moved
    <namespace>:epoch:{<tag>}               string  the epoch of the primary that has this key
    <namespace>:rights:{<tag>}:<type>       any     exists briefly while a node checks its permissions; also a channel
    <namespace>:node:{<node>}               channel messages to one node
    <namespace>:{all}                       channel messages to all nodes
    <namespace>:{all}:<node>                channel a node's probes of the connection subscribed to the channel of all
    <namespace>:topic:{<topic>}             channel messages on a topic
    <namespace>:list:{<topic>}              list    recent messages on a topic
    <namespace>:list:{<topic>}:numbers      hash    the list's numbers: run, epoch, before, start, top, renewed
    <namespace>:list:{<topic>}:key:<key>    string  the position of the item that was appended under a key
    <namespace>:probe:{<tag>}:<node>        channel a node's probes of the connection subscribed to a primary's topics
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

from primacron.entries import Name
from primacron.ids import AccountId, NodeId, SessionId, Sid

_OTHER: Final = re.compile(r"[^A-Za-z0-9_.-]")


def _encode(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogatepass"))


def encode_part(text: str) -> str:
    """Encode a variable part of a name: letters, digits and ``_.-`` stay, everything else is percent-encoded."""
    if text.isascii() and text.isalnum():  # most ids, of which a handshake needs six
        return text
    return _OTHER.sub(_encode, text)


class Keys:
    """The names of one namespace."""

    def __init__(self, namespace: str) -> None:
        self._prefix = encode_part(namespace)
        self.leases = f"{self._prefix}:{{nodes}}:leases"
        self.keys = f"{self._prefix}:{{nodes}}:keys"
        self.attended = f"{self._prefix}:{{nodes}}:attended"
        self.all = f"{self._prefix}:{{all}}"

    def account(self, account: AccountId) -> str:
        """Return the key of an account's entries."""
        return f"{self._prefix}:account:{{{encode_part(account)}}}"

    def set(self, kind: str, name: Name) -> str:
        """Return the key of a session's set of a kind."""
        return f"{self._prefix}:set:{{{encode_part(name[0])}}}:{encode_part(name[1])}:{encode_part(kind)}"

    def index(self, node: NodeId) -> str:
        """Return the key of a node's index."""
        return f"{self._prefix}:index:{{{node}}}"

    def sid(self, sid: Sid) -> str:
        """Return the key that locates a connection that has moved."""
        return f"{self._prefix}:sid:{{{sid}}}"

    def epoch(self, tag: str) -> str:
        """Return the key of a primary's epoch."""
        return f"{self._prefix}:epoch:{{{tag}}}"

    def rights(self, tag: str, kind: str) -> str:
        """Return the key of a given type with which a node checks its permissions."""
        return f"{self._prefix}:rights:{{{tag}}}:{kind}"

    def node(self, node: NodeId) -> str:
        """Return a node's channel."""
        return f"{self._prefix}:node:{{{node}}}"

    def probe(self, node: NodeId) -> str:
        """Return the channel of a node's probes."""
        return f"{self.all}:{node}"

    def topic(self, topic: str) -> str:
        """Return the channel of a topic."""
        return f"{self._prefix}:topic:{{{encode_part(topic)}}}"

    def list(self, topic: str) -> str:
        """Return the key of a topic's list."""
        return f"{self._prefix}:list:{{{encode_part(topic)}}}"

    def list_numbers(self, topic: str) -> str:
        """Return the key of a list's numbers."""
        return f"{self.list(topic)}:numbers"

    def list_key(self, topic: str, key: str) -> str:
        """Return the key that locates the item appended to a list under ``key``."""
        return f"{self.list(topic)}:key:{encode_part(key)}"

    def topic_probe(self, tag: str, node: NodeId) -> str:
        """Return the channel of a node's probes of its connection to the primary that has a tag."""
        return f"{self._prefix}:probe:{{{tag}}}:{node}"


def pack_name(name: Name) -> str:
    """Encode a session's name as one string."""
    return f"{encode_part(name[0])} {encode_part(name[1])}"


def unpack_name(text: bytes) -> Name:
    """Decode a session's name."""
    account, _, session = text.decode("ascii", "replace").partition(" ")
    return AccountId(unquote(account)), SessionId(unquote(session))

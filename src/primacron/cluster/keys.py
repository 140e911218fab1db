"""
The names of everything in Redis.

Parts are percent-encoded, so that no two names meet; what a script touches
together has the same hash tag, so that a Redis Cluster keeps it in one slot::

    <namespace>:{nodes}:leases              hash    node -> end of its lease in ms, what it says of itself
    <namespace>:{nodes}:keys                hash    cluster key -> when it was added, in ms
    <namespace>:{nodes}:attended            string  another number whenever a node has begun to attend
    <namespace>:account:{<account>}         hash    session -> node, generation, sid
    <namespace>:set:{<account>}:<session>:<kind>
                                            set     what a feature keeps for the session, for its return, too
    <namespace>:index:{<node>}              set     account and session of each entry of the node, and perhaps more
    <namespace>:sid:{<sid>}                 string  account and session of a connection that has moved
    <namespace>:epoch:{<tag>}               string  the epoch of the primary that has this key
    <namespace>:rights:{<tag>}:<type>       each    there for a moment, when a node tries its rights; also a channel
    <namespace>:node:{<node>}               channel what is sent to a node
    <namespace>:{all}                       channel what is sent to all nodes
    <namespace>:{all}:<node>                channel a node's probes of the connection that hears what is sent to all
    <namespace>:topic:{<topic>}             channel what is published on a topic
    <namespace>:list:{<topic>}              list    what was published on a topic, and is kept
    <namespace>:list:{<topic>}:numbers      hash    the numbers of the list: run, epoch, before, start, top, renewed
    <namespace>:list:{<topic>}:key:<key>    string  where the item is that was appended under a key
    <namespace>:probe:{<tag>}:<node>        channel a node's probes of the connection that hears the topics of a primary
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
    """Return a text as a part of a name: letters, digits and ``_.-`` as they are, all else percent-encoded."""
    if text.isascii() and text.isalnum():  # most ids, and six of them for each handshake
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
        """Return the name of an account's entries."""
        return f"{self._prefix}:account:{{{encode_part(account)}}}"

    def set(self, kind: str, name: Name) -> str:
        """Return the name of a session's set of a kind."""
        return f"{self._prefix}:set:{{{encode_part(name[0])}}}:{encode_part(name[1])}:{encode_part(kind)}"

    def index(self, node: NodeId) -> str:
        """Return the name of a node's index."""
        return f"{self._prefix}:index:{{{node}}}"

    def sid(self, sid: Sid) -> str:
        """Return the name of what is known of a connection that has moved."""
        return f"{self._prefix}:sid:{{{sid}}}"

    def epoch(self, tag: str) -> str:
        """Return the name of an epoch."""
        return f"{self._prefix}:epoch:{{{tag}}}"

    def rights(self, tag: str, kind: str) -> str:
        """Return the name of something of a kind by which a node tries its rights."""
        return f"{self._prefix}:rights:{{{tag}}}:{kind}"

    def node(self, node: NodeId) -> str:
        """Return the channel of a node."""
        return f"{self._prefix}:node:{{{node}}}"

    def probe(self, node: NodeId) -> str:
        """Return the channel of a node's probes."""
        return f"{self.all}:{node}"

    def topic(self, topic: str) -> str:
        """Return the channel of a topic."""
        return f"{self._prefix}:topic:{{{encode_part(topic)}}}"

    def list(self, topic: str) -> str:
        """Return the name of the list of a topic."""
        return f"{self._prefix}:list:{{{encode_part(topic)}}}"

    def list_numbers(self, topic: str) -> str:
        """Return the name of the numbers of a list."""
        return f"{self.list(topic)}:numbers"

    def list_key(self, topic: str, key: str) -> str:
        """Return the name of where the item of a list is that was appended under a key."""
        return f"{self.list(topic)}:key:{encode_part(key)}"

    def topic_probe(self, tag: str, node: NodeId) -> str:
        """Return the channel of a node's probes of the connection to the primary that has a tag."""
        return f"{self._prefix}:probe:{{{tag}}}:{node}"


def pack_name(name: Name) -> str:
    """Return a session's name as one text."""
    return f"{encode_part(name[0])} {encode_part(name[1])}"


def unpack_name(text: bytes) -> Name:
    """Read a session's name."""
    account, _, session = text.decode("ascii", "replace").partition(" ")
    return AccountId(unquote(account)), SessionId(unquote(session))

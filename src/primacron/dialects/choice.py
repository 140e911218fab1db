"""Which dialect a client speaks, judging by its handshake."""

from __future__ import annotations

from primacron.config import Options
from primacron.dialects.base import Dialect
from primacron.dialects.encoding import Encoding
from primacron.dialects.primacron import JsonDialect, MsgpackDialect
from primacron.dialects.primus import PrimusDialect
from primacron.dialects.raw import RawDialect
from primacron.errors import BadRequest
from primacron.web import Query


class Dialects:
    """The dialects of a server, one object each."""

    __slots__ = ("encoding", "main", "msgpack", "primus")

    def __init__(self, options: Options) -> None:
        #: How all of them encode values, as do messages to other servers.
        self.encoding = Encoding(options.enc_hook)
        self.main: Dialect = JsonDialect(options.max_items, self.encoding)
        if options.dialect == "raw":
            self.main = RawDialect(self.encoding, separated="polling" in options.transports and 4 in options.protocols)
        self.msgpack = MsgpackDialect(options.max_items, self.encoding)
        self.primus = PrimusDialect(options.max_items, self.encoding)

    def choose(self, query: Query) -> Dialect:
        """
        Return the dialect of a client.

        Raises:
            BadRequest: if it asks for an unknown format.

        """
        if "_primuscb" in query:
            return self.primus
        wanted = query.get("format", "json")
        if wanted == "json" or self.main.name == "raw":
            return self.main
        if wanted == "msgpack":
            return self.msgpack
        raise BadRequest(f"parameter 'format': expected json or msgpack, got {wanted[:100]!r}")

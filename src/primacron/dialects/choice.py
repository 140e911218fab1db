"""Which dialect a client speaks, judging by its handshake."""

from __future__ import annotations

from primacron.config import Options
from primacron.dialects.base import Dialect
from primacron.dialects.channels import ChannelJsonDialect, ChannelMsgpackDialect
from primacron.dialects.encoding import Encoding
from primacron.dialects.primacron import JsonDialect, MsgpackDialect
from primacron.dialects.primus import PrimusDialect
from primacron.dialects.raw import RawDialect
from primacron.errors import BadRequest
from primacron.web import Query


class Dialects:
    """The dialects of a server, one object each."""

    __slots__ = ("_aware", "_plain", "encoding", "main", "msgpack", "primus")

    def __init__(self, options: Options) -> None:
        #: How all of them encode values, as do messages to other servers.
        self.encoding = Encoding(options.enc_hook)
        json = JsonDialect(options.max_items, self.encoding)
        self.main: Dialect = json
        if options.dialect == "raw":
            self.main = RawDialect(self.encoding, separated="polling" in options.transports and 4 in options.protocols)
        self.msgpack = MsgpackDialect(options.max_items, self.encoding)
        self.primus = PrimusDialect(options.max_items, self.encoding)
        self._aware: dict[Dialect, Dialect] = {
            json: ChannelJsonDialect(options.max_items, self.encoding),
            self.msgpack: ChannelMsgpackDialect(options.max_items, self.encoding),
        }
        self._plain = {aware: plain for plain, aware in self._aware.items()}

    def aware(self, dialect: Dialect) -> Dialect:
        """Return the variant of a dialect for clients that know of channels; itself if it has none, or is one."""
        return self._aware.get(dialect, dialect)

    def plain(self, dialect: Dialect) -> Dialect:
        """Return the variant that knows of no channels; both write the same, but for what is about channels."""
        return self._plain.get(dialect, dialect)

    def choose(self, query: Query) -> Dialect:
        """
        Return the dialect of a client; with ``resume=1`` it knows of channels.

        Raises:
            BadRequest: if it asks for an unknown format.

        """
        chosen = self._choose(query)
        return self.aware(chosen) if resumes(query) else chosen

    def _choose(self, query: Query) -> Dialect:
        if "_primuscb" in query:
            return self.primus
        wanted = query.get("format", "json")
        if wanted == "json" or self.main.name == "raw":
            return self.main
        if wanted == "msgpack":
            return self.msgpack
        raise BadRequest(f"parameter 'format': expected json or msgpack, got {wanted[:100]!r}")


def resumes(query: Query) -> bool:
    """Tell whether a client asks for what only clients of today understand."""
    return query.get("resume") == "1"

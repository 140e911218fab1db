"""What a message looks like in the list of its channel."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from primacron.content import AnyContent, InChannel, Message, Mirrored
from primacron.dialects.encoding import Encoding
from primacron.entries import Name
from primacron.routing.options import PLAIN, SendOptions


class Item(msgspec.Struct, array_like=True, frozen=True, tag="event"):
    """An event and its arguments, and the sessions that do not get it."""

    name: str
    args: tuple[Any, ...]
    left_out: frozenset[Name] = frozenset()

    @classmethod
    def of(cls, content: AnyContent, left_out: frozenset[Name]) -> Item:
        """
        Return the item for what an application sends.

        Raises:
            TypeError: if it is an object with ``event`` whose ``args`` are no list.

        """
        if isinstance(content, Message):
            return cls(*_read_message(content.content), left_out)
        assert not isinstance(content, Mirrored)  # which is sent to one session
        return cls(content.name, content.args, left_out)

    def pack(self, encoding: Encoding) -> bytes:
        """
        Encode it.

        Raises:
            TypeError: if a value cannot be encoded.
            ValueError: if a number is NaN, infinite, or too large.

        """
        return encoding.pack(self)

    def content(self, channel: str, offset: int) -> InChannel:
        """Return the content for the members of its channel."""
        return InChannel(self.name, self.args, channel, offset)

    @property
    def options(self) -> SendOptions:
        """Whom to leave out."""
        return SendOptions(left_out=self.left_out) if self.left_out else PLAIN


def read_item(packed: bytes) -> Item:
    """
    Decode an item.

    Raises:
        ValueError: if it is malformed, or of a kind unknown to this server.

    """
    try:
        return _ITEM.decode(packed)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise ValueError(f"item: {error}") from None


def _read_message(content: Any) -> tuple[str, tuple[Any, ...]]:
    """Return the event of a message; an envelope has no room for more than its arguments."""
    if not isinstance(content, dict) or "event" not in content:
        return "message", (content,)
    args = content.get("args", ())
    if not isinstance(args, (list, tuple)):
        raise TypeError(f"args: expected a list, got {args!r}")
    return content["event"], tuple(args)


_ITEM: Final = msgspec.msgpack.Decoder(Item)

"""What nodes say to each other: MessagePack lists, the version first."""

from __future__ import annotations

from typing import Final, Self

import msgspec

from primacron.ids import Sid

VERSION: Final = 1


class CloseReplaced(msgspec.Struct, frozen=True, array_like=True, tag="close-replaced"):
    """Ask a node to close a connection whose session was claimed by another one."""

    sid: Sid
    version: int = VERSION

    def encode(self) -> bytes:
        """Return the message as it travels."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """
        Read a message.

        Raises:
            ValueError: if it is malformed, of another kind or of a newer version.

        """
        try:
            message = msgspec.msgpack.decode(body, type=cls)
        except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
            raise ValueError(str(error)) from None
        if message.version > VERSION:
            raise ValueError(f"version {message.version}")
        return message

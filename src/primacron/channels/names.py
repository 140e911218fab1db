"""What may be the name of a channel."""

from __future__ import annotations

import re
from typing import Final

from primacron.errors import ChannelNameTooLong, ValidationFailed

# Control characters, and lone surrogates, which are no UTF-8.
_FORBIDDEN: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def check_name(name: str, max_bytes: int) -> None:
    """
    Refuse what no channel can be called.

    Raises:
        ValidationFailed: if it is empty, or contains control characters or lone surrogates.
        ChannelNameTooLong: if its UTF-8 has more than ``max_bytes``.

    """
    if len(name) > max_bytes:  # before anything else looks at it
        raise ChannelNameTooLong(max_bytes)
    if not name or _FORBIDDEN.search(name):
        raise ValidationFailed("a channel's name is at least one character, and no control characters")
    if not name.isascii() and len(name.encode()) > max_bytes:
        raise ChannelNameTooLong(max_bytes)

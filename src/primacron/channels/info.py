"""What the members of a channel see of each other."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from primacron.dialects.encoding import ENCODING, Encoding
from primacron.errors import InfoTooLarge

#: Bytes of one member's info, as MessagePack.
MAX_INFO: Final = 1_024


def pack_info(info: Any, encoding: Encoding = ENCODING) -> msgspec.Raw:
    """
    Encode a member's info for the other servers.

    Raises:
        TypeError: if it cannot be encoded.
        ValueError: if a number in it is NaN, infinite or too large.
        InfoTooLarge: if it has too many bytes.

    """
    packed = encoding.pack(info)
    if len(packed) > MAX_INFO:
        raise InfoTooLarge(len(packed), MAX_INFO)
    return msgspec.Raw(packed)

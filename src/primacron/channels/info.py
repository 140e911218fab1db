"""What the members of a channel see of each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import msgspec

from primacron.contract.models import PYDANTIC, PydanticReader, find_marks
from primacron.dialects.encoding import ENCODING, NIL, Encoding
from primacron.errors import InfoTooLarge, RegistrationError, ValidationFailed

#: Bytes of one member's info, as MessagePack.
MAX_INFO: Final = 1_024

#: Decodes packed info for the application.
ReadInfo: TypeAlias = Callable[[bytes], Any]


def pack_info(info: Any, encoding: Encoding = ENCODING) -> msgspec.Raw:
    """
    Encode a member's info for the other servers, None for none.

    Raises:
        TypeError: if it cannot be encoded, also as JSON, which most clients get.
        ValueError: if a number in it is NaN, infinite or too large.
        InfoTooLarge: if it has too many bytes.

    """
    if info is None:
        return NIL
    packed = encoding.pack(info)
    if len(packed) > MAX_INFO:
        raise InfoTooLarge(len(packed), MAX_INFO)
    _demand_json(packed, encoding)
    return msgspec.Raw(packed)


def _demand_json(packed: bytes, encoding: Encoding) -> None:
    """Refuse what the servers can tell each other and not their clients: nobody could be told who is there."""
    try:
        encoding.encode_json(read_plain(packed))
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"the info of a member is not for JSON: {error}") from None


def read_plain(packed: bytes) -> Any:
    """Decode info as dicts, lists, texts and numbers."""
    return msgspec.msgpack.decode(packed)


def info_reader(annotation: Any) -> ReadInfo:
    """
    Return what decodes info as a type.

    Info that is not of this type is decoded as plain data: the server may have let a session join with any info, and
    another version of the application may run on another server. So is that of a type which can only be encoded.
    """
    try:
        return _typed(annotation)
    except (TypeError, NameError, RegistrationError):
        return read_plain


def _typed(annotation: Any) -> ReadInfo:
    if PYDANTIC in find_marks(annotation):
        reader = PydanticReader(annotation, "info")
        return lambda packed: _read(lambda data: reader.read_value(read_plain(data), "$"), packed)
    decode = msgspec.msgpack.Decoder(annotation).decode
    return lambda packed: _read(decode, packed)


def _read(read: ReadInfo, packed: bytes) -> Any:
    try:
        return read(packed)
    except (msgspec.ValidationError, ValidationFailed, NotImplementedError):
        return read_plain(packed)

"""
How values are encoded, by the same rules for all clients.

JSON and MessagePack cannot represent the same values, and one event may go to clients
of both. So in either format map keys are strings, times are ISO 8601 strings, and NaN
and infinity are refused. The encoded bytes are scanned for suspects first; the values
themselves are only walked through if there are any.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import msgspec

from primacron.dialects.base import to_plain
from primacron.natives import as_native

Hook: TypeAlias = Callable[[Any], Any]

#: None, packed.
NIL: Final = msgspec.Raw(b"\xc0")
#: Bytes up to which scanning the encoded form is cheaper than looking at the values.
SHORT: Final = 512

# Types that JSON and MessagePack encode alike and that cannot be NaN.
_PLAIN: Final = frozenset({str, int, bool, type(None), bytes})
_BYTES: Final = (bytes, bytearray, memoryview)
# A double whose exponent is all ones; a match may also be part of something else.
_NOT_FINITE: Final = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")


class Encoding:
    """Encodes for clients and for other servers; ``hook`` is the application's, for its own types."""

    __slots__ = ("_hook", "_packer", "encode_json")

    def __init__(self, hook: Hook | None = None) -> None:
        self._hook: Hook = to_plain if hook is None else _asking_first(hook)
        #: Encodes any value as JSON, without enforcing the rules; see :meth:`json`.
        self.encode_json = msgspec.json.Encoder(enc_hook=self._hook).encode
        self._packer = msgspec.msgpack.Encoder(enc_hook=self._hook)

    def json(self, value: Any) -> bytes:
        """
        Encode a value as JSON.

        Raises:
            TypeError: if it cannot be encoded.
            ValueError: if it contains NaN or infinity.

        """
        data = self.encode_json(value)
        if (len(data) <= SHORT or not is_plain(value)) and has_null(data):
            self.demand_finite(value)
        return data

    def msgpack(self, envelope: dict[str, Any]) -> bytes:
        """
        Encode an envelope, whose arguments are ``args``, as MessagePack for a client.

        Raises:
            TypeError: if it cannot be encoded.
            ValueError: if a number is NaN, infinite or too large.

        """
        is_simple = is_plain(envelope.get("args"))
        if not is_simple:
            envelope = self._builtins(envelope)
        try:
            data = self._packer.encode(envelope)
        except OverflowError as error:  # JSON puts no limit on integers
            raise ValueError(f"not for a client with format=msgpack: {error}") from None
        if not is_simple and _NOT_FINITE.search(data):
            _demand_finite(envelope)
        return data

    def pack(self, value: Any) -> bytes:
        """
        Encode a value for other servers, which re-encode it for their clients.

        Raises:
            TypeError: if it cannot be encoded.
            ValueError: if a number is NaN, infinite or too large.

        """
        try:
            data = self._packer.encode(value)
        except OverflowError as error:
            raise ValueError(f"not for other servers: {error}") from None
        if _NOT_FINITE.search(data):
            _demand_finite(self._builtins(value))
        return data

    def demand_finite(self, value: Any) -> None:
        """Refuse a value that contains NaN or infinity."""
        try:
            if not _NOT_FINITE.search(self._packer.encode(value)):
                return
        except OverflowError:  # an integer that only JSON can represent
            pass
        _demand_finite(self._builtins(value))

    def _builtins(self, value: Any) -> Any:
        try:
            return msgspec.to_builtins(value, builtin_types=_BYTES, str_keys=True, enc_hook=self._hook)
        except TypeError:  # possibly a key of some subclass of str, which the encoders accept
            plain = _with_native_keys(value)
            return msgspec.to_builtins(plain, builtin_types=_BYTES, str_keys=True, enc_hook=self._hook)


#: The encoding of a server without types of its own.
ENCODING: Final = Encoding()


def has_null(data: bytes) -> bool:
    """Tell whether JSON may contain null, which is what NaN and infinity become."""
    return data.find(b"null") >= 0  # `in` first tries the bytes as an integer, and raises an error internally


def is_plain(args: Any) -> bool:
    """Tell whether all arguments are strings, integers and the like, which need no further check."""
    if args.__class__ is not tuple:
        return False
    for each in args:  # noqa: SIM110 (a generator would cost more than the loop)
        if each.__class__ not in _PLAIN:
            return False
    return True


def _asking_first(hook: Hook) -> Hook:
    def encode(value: Any) -> Any:
        if not isinstance(value, (str, bytes, int, float)):
            try:
                return hook(value)
            except NotImplementedError:
                pass
        return to_plain(value)

    return encode


def _with_native_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {as_native(key): _with_native_keys(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_native_keys(each) for each in value]
    return value


def _demand_finite(value: Any) -> None:
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, float):
            if each - each != 0:  # true only of NaN and the infinities
                raise ValueError(f"{each} cannot be sent: JSON has no such number")
        elif isinstance(each, dict):
            waiting += each.values()
        elif isinstance(each, (list, tuple)):
            waiting += each

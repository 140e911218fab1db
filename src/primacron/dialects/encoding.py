"""
How values are written, by the same rule for all clients.

JSON and MessagePack cannot hold the same things, and one event may go to clients
of both. So keys of maps are texts, times are ISO 8601 texts, and NaN and infinity
are refused, in either form. What may break the rule is looked for in the encoded
bytes first: values are gone through only where something was found there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import msgspec

from primacron.dialects.base import to_plain
from primacron.natives import as_native

Hook: TypeAlias = Callable[[Any], Any]

#: Bytes up to which it costs less to look into what was encoded than at what it was made of.
SHORT: Final = 512

# What JSON and MessagePack write alike, and what cannot be NaN.
_PLAIN: Final = frozenset({str, int, bool, type(None), bytes})
_BYTES: Final = (bytes, bytearray, memoryview)
# A double whose exponent is all ones; the bytes may be something else, too.
_NOT_FINITE: Final = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")


class Encoding:
    """Encodes for clients and for other servers; ``hook`` is the application's, for types of its own."""

    __slots__ = ("_hook", "_packer", "encode_json")

    def __init__(self, hook: Hook | None = None) -> None:
        self._hook: Hook = to_plain if hook is None else _asking_first(hook)
        #: Returns JSON of any value, which may be against the rule; see :meth:`json`.
        self.encode_json = msgspec.json.Encoder(enc_hook=self._hook).encode
        self._packer = msgspec.msgpack.Encoder(enc_hook=self._hook)

    def json(self, value: Any) -> bytes:
        """
        Return a value as JSON.

        Raises:
            TypeError: if it cannot be encoded.
            ValueError: if it has NaN or infinity in it.

        """
        data = self.encode_json(value)
        if (len(data) <= SHORT or not is_plain(value)) and has_null(data):
            self.demand_finite(value)
        return data

    def msgpack(self, envelope: dict[str, Any]) -> bytes:
        """
        Return an envelope, whose arguments are ``args``, as MessagePack for a client.

        Raises:
            TypeError: if it cannot be encoded.
            ValueError: if a number is NaN, infinite or too large.

        """
        is_simple = is_plain(envelope.get("args"))
        if not is_simple:
            envelope = self._builtins(envelope)
        try:
            data = self._packer.encode(envelope)
        except OverflowError as error:  # JSON has no largest integer
            raise ValueError(f"not for a client with format=msgpack: {error}") from None
        if not is_simple and _NOT_FINITE.search(data):
            _demand_finite(envelope)
        return data

    def pack(self, value: Any) -> bytes:
        """
        Return a value as it travels to other servers, which write it for their clients.

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
        """Refuse a value that has NaN or infinity in it."""
        try:
            if not _NOT_FINITE.search(self._packer.encode(value)):
                return
        except OverflowError:  # a number that only JSON can hold
            pass
        _demand_finite(self._builtins(value))

    def _builtins(self, value: Any) -> Any:
        try:
            return msgspec.to_builtins(value, builtin_types=_BYTES, str_keys=True, enc_hook=self._hook)
        except TypeError:  # maybe of a key of some subclass of str, which encoders take
            plain = _with_native_keys(value)
            return msgspec.to_builtins(plain, builtin_types=_BYTES, str_keys=True, enc_hook=self._hook)


#: That of a server without types of its own.
ENCODING: Final = Encoding()


def has_null(data: bytes) -> bool:
    """Tell whether JSON may have null in it, which NaN and infinity become."""
    return data.find(b"null") >= 0  # `in` takes bytes for a number first, and an error is made of that


def is_plain(args: Any) -> bool:
    """Tell whether arguments are texts, integers and the like, which need no second look."""
    if args.__class__ is not tuple:
        return False
    for each in args:  # noqa: SIM110 (a generator costs more than all of it)
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
            if each - each != 0:  # true of NaN and of both infinities alone
                raise ValueError(f"{each} cannot be sent: JSON has no such number")
        elif isinstance(each, dict):
            waiting += each.values()
        elif isinstance(each, (list, tuple)):
            waiting += each

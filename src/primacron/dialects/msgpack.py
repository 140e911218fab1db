"""
Validates the structure of MessagePack data before anything is built from it.

Map keys must be strings; extension types (including timestamps), NaN and infinity are
refused; the number of elements and the depth are limited, so that a small message
cannot expand into a huge object.
"""

from __future__ import annotations

import struct
from typing import Final

from primacron.errors import InvalidMessage, UndecodableMessage

MAX_DEPTH: Final = 128

# First byte -> number of value bytes that follow.
_FIXED: Final = {
    0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8,
    0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8,
}  # fmt: skip
# First byte -> number of length bytes that follow.
_BLOBS: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_ARRAYS: Final = {0xDC: 2, 0xDD: 4}
_MAPS: Final = {0xDE: 2, 0xDF: 4}
_FLOATS: Final = {0xCA: struct.Struct(">f"), 0xCB: struct.Struct(">d")}
_STRINGS: Final = frozenset({*range(0xA0, 0xC0), 0xD9, 0xDA, 0xDB})


def check_structure(data: bytes, max_items: int) -> None:
    """
    Walk through one value without building it.

    Raises:
        UndecodableMessage: if it is truncated, has trailing bytes, or an unassigned type byte.
        InvalidMessage: if it contains something refused, is nested deeper than 128, or
            has more than ``max_items`` elements.

    """
    _Walk(data, max_items).run()


class _Walk:
    __slots__ = ("data", "items", "limit", "open", "position")

    def __init__(self, data: bytes, max_items: int) -> None:
        self.data = data
        self.limit = self.items = max_items
        self.position = 0
        # Per open container: elements left, and whether it is a map (where an even number left means a key is next).
        self.open: list[list[int]] = []

    def run(self) -> None:
        self._value()
        while self.open:
            top = self.open[-1]
            if top[0] == 0:
                self.open.pop()
                continue
            is_key = top[1] and top[0] % 2 == 0
            top[0] -= 1
            if is_key and self._peek() not in _STRINGS:
                raise InvalidMessage("a map key that is not a string")
            self._value()
        if self.position != len(self.data):
            raise UndecodableMessage("MessagePack data is malformed: trailing bytes")

    def _peek(self) -> int:
        if self.position >= len(self.data):
            raise UndecodableMessage("MessagePack data is truncated")
        return self.data[self.position]

    def _value(self) -> None:
        first = self._peek()
        self.position += 1
        if first < 0x80 or first >= 0xE0:
            return
        if first < 0x90:
            self._enter(first & 15, is_map=True)
        elif first < 0xA0:
            self._enter(first & 15, is_map=False)
        elif first < 0xC0:
            self._skip(first & 31)
        elif first in _FIXED:
            self._number(first)
        elif first in _BLOBS:
            self._skip(self._length(_BLOBS[first]))
        elif first in _ARRAYS:
            self._enter(self._length(_ARRAYS[first]), is_map=False)
        elif first in _MAPS:
            self._enter(self._length(_MAPS[first]), is_map=True)
        elif first == 0xC1:
            raise UndecodableMessage("MessagePack data is malformed: byte c1")
        else:
            raise InvalidMessage("an extension type")

    def _number(self, first: int) -> None:
        start = self.position
        self._skip(_FIXED[first])
        if first in _FLOATS:
            (value,) = _FLOATS[first].unpack_from(self.data, start)
            if value - value != 0:  # true only of NaN and the infinities
                raise InvalidMessage("a number that is NaN or infinite")

    def _length(self, width: int) -> int:
        start = self.position
        self._skip(width)
        return int.from_bytes(self.data[start : self.position], "big")

    def _skip(self, width: int) -> None:
        self.position += width
        if self.position > len(self.data):
            raise UndecodableMessage("MessagePack data is truncated")

    def _enter(self, length: int, *, is_map: bool) -> None:
        count = length * 2 if is_map else length
        self.items -= length
        if self.items < 0:
            raise InvalidMessage(f"more than {self.limit} elements")
        if len(self.open) >= MAX_DEPTH:
            raise InvalidMessage(f"nested more than {MAX_DEPTH} deep")
        self.open.append([count, is_map])

"""What members may tell of themselves."""

from __future__ import annotations

import msgspec
import pytest

from primacron.channels.info import pack_info
from primacron.errors import InfoTooLarge


class Seat(msgspec.Struct):
    name: str


@pytest.mark.parametrize("info", [None, 5, "ann", [1], {"a": None}])
def test_info_is_packed_for_the_other_servers(info: object) -> None:
    assert msgspec.msgpack.decode(pack_info(info)) == info


def test_a_struct_becomes_an_object() -> None:
    assert msgspec.msgpack.decode(pack_info(Seat("ann"))) == {"name": "ann"}


def test_a_kilobyte_is_allowed_and_no_more() -> None:
    assert len(pack_info("a" * 1_021)) == 1_024
    with pytest.raises(InfoTooLarge) as caught:
        pack_info("a" * 1_022)
    assert str(caught.value) == "the info of a member has 1025 bytes of MessagePack, the limit is 1024"
    assert caught.value.kind == "handler"


@pytest.mark.parametrize(
    "info",
    [{None: 1}, [{True: 1}], {(1, 2): 3}, {"a": msgspec.msgpack.Ext(5, b"x")}, msgspec.Raw(b"\xc1")],
    ids=["null", "true", "array", "extension", "malformed"],
)
def test_what_is_no_json_is_refused_though_servers_could_tell_each_other(info: object) -> None:
    with pytest.raises(TypeError, match="not for JSON"):
        pack_info(info)


@pytest.mark.parametrize(("info", "error"), [(object(), TypeError), (float("nan"), ValueError), (2**64, ValueError)])
def test_what_cannot_travel_is_refused(info: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        pack_info(info)

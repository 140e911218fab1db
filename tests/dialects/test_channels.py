"""Envelopes of channels in both forms: what clients ask for, and what those that know of channels are told."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from primacron.dialects.base import MAX_ACK, Dialect, Incoming, Joined, Joining, Leaving, Since
from primacron.dialects.channels import ChannelJsonDialect, ChannelMsgpackDialect
from primacron.dialects.primacron import JsonDialect, MsgpackDialect
from primacron.dialects.primus import PrimusDialect
from primacron.dialects.raw import RawDialect
from primacron.errors import InvalidMessage, MessageError, UndecodableMessage, ValidationFailed
from primacron.protocol.outgoing import OutgoingPacket
from tests.dialects.reading import Tongue, asked, heard, refusal, values

FORMS = [
    pytest.param(Tongue(JsonDialect(10_000)), id="json"),
    pytest.param(Tongue(MsgpackDialect(10_000)), id="msgpack"),
    pytest.param(Tongue(ChannelJsonDialect(10_000)), id="json with channels"),
    pytest.param(Tongue(ChannelMsgpackDialect(10_000)), id="msgpack with channels"),
]
AWARE = FORMS[2:]
PLAIN: list[Dialect] = [JsonDialect(10_000), MsgpackDialect(10_000), PrimusDialect(10_000), RawDialect()]
forms = st.sampled_from([form.values[0] for form in FORMS])


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Tongue:
    """A dialect of envelopes; those of clients that have not joined yet read the same."""
    found = request.param
    assert isinstance(found, Tongue)
    return found


@pytest.fixture(params=AWARE)
def aware(request: pytest.FixtureRequest) -> Tongue:
    """A dialect of clients that know of channels."""
    found = request.param
    assert isinstance(found, Tongue)
    return found


# What clients ask for

ASKED: list[tuple[dict[str, Any], Joining | Leaving]] = [
    ({"join": "lot:7", "id": 1}, Joining("lot:7", 1)),
    ({"id": 0, "join": ""}, Joining("", 0)),
    ({"join": "é😀", "id": MAX_ACK}, Joining("é😀", MAX_ACK)),
    ({"join": "a", "id": 1, "since": {"epoch": "e", "offset": 0}}, Joining("a", 1, Since("e", 0))),
    ({"join": "a", "id": 1, "since": {"offset": MAX_ACK, "epoch": ""}}, Joining("a", 1, Since("", MAX_ACK))),
    ({"join": "a", "id": 1, "since": {"epoch": "e", "offset": 5, "more": []}}, Joining("a", 1, Since("e", 5))),
    ({"join": "a", "id": 1, "last": 1}, Joining("a", 1, last=1)),
    ({"join": "a", "id": 1, "last": MAX_ACK}, Joining("a", 1, last=MAX_ACK)),
    ({"join": "a", "id": 1, "args": 5, "error": 5, "channel": 5, "x": {"join": 5}}, Joining("a", 1)),
    ({"leave": "b", "join": "a", "id": 1}, Joining("a", 1)),
    ({"leave": 5, "join": "a", "id": 1}, Joining("a", 1)),
    ({"leave": "lot:7", "id": 1}, Leaving("lot:7", 1)),
    ({"leave": "a", "id": 1, "since": 5, "last": 0, "error": 5}, Leaving("a", 1)),
]


@pytest.mark.parametrize(("value", "request_"), ASKED, ids=lambda value: repr(value)[:60])
def test_a_client_asks_to_join_and_to_leave(form: Tongue, value: dict[str, Any], request_: object) -> None:
    assert form.asked(value) == request_


@pytest.mark.parametrize("number", [None, True, -1, 2**53, 1.0, "1", [], {}])
@pytest.mark.parametrize("key", ["join", "leave"])
def test_without_a_valid_id_both_are_the_event_message(form: Tongue, key: str, number: object) -> None:
    for value in ({key: "lot:7"}, {key: "lot:7", "id": number}, {key: 5, "last": 0, "id": number}):
        incoming = form.heard(value)
        assert (incoming.event, incoming.id, form.unpack(incoming.args)) == ("message", UNSET, [value])


def test_answers_and_events_come_first(form: Tongue) -> None:
    assert form.heard({"join": "a", "leave": "a", "id": 1, "event": "bid"}).event == "bid"
    assert form.heard({"join": "a", "id": 1, "ack": 7}).ack == 7
    assert form.refusal({"join": "a", "id": 1, "event": 5}) is InvalidMessage
    assert form.refusal({"join": "a", "id": 1, "ack": None}) is InvalidMessage


def test_of_two_fields_of_one_name_the_last_decides() -> None:
    for dialect in (JsonDialect(10_000), ChannelJsonDialect(10_000)):
        assert asked(dialect, '{"join":"a","join":"b","id":2,"id":1,"error":5}') == Joining("b", 1)
        assert refusal(dialect, '{"join":"a","id":"x","id":1}') is ValidationFailed
        assert heard(dialect, '{"join":"a","id":1,"id":"x"}').event == "message"
        assert heard(dialect, '{"join":"a","id":1,"event":"bid","event":"bid"}').event == "bid"


def test_a_key_of_json_may_be_written_with_escapes() -> None:
    assert asked(JsonDialect(10_000), r'{"\u006aoin":"a","id":1}') == Joining("a", 1)
    assert asked(JsonDialect(10_000), r'{"\u006ceave":"a","i\u0064":1}') == Leaving("a", 1)


NOT_TEXT: list[object] = [None, True, 5, 1.5, [], ["a"], {}, {"join": "a"}]
NOT_A_POSITION: list[object] = [None, True, 5, "e", [], ["e", 5]]
NOT_AN_OFFSET: list[object] = [
    None, True, False, -1, -(2**63), 2**53, 2**63, 2**64 - 1, 1.5, 1e308, "1", [], {},
]  # fmt: skip
MALFORMED: list[tuple[dict[str, Any], str, str]] = [
    *(({"join": name}, "$.join", "Expected `str`") for name in NOT_TEXT),
    *(({"leave": name}, "$.leave", "Expected `str`") for name in NOT_TEXT),
    *(({"since": since}, "$.since", "Expected `object`") for since in NOT_A_POSITION),
    ({"since": {}}, "$.since", "missing required field `epoch`"),
    ({"since": {"epoch": "e"}}, "$.since", "missing required field `offset`"),
    *(({"since": {"epoch": epoch, "offset": 1}}, "$.since.epoch", "Expected `str`") for epoch in NOT_TEXT),
    *(({"since": {"epoch": "e", "offset": each}}, "$.since.offset", "Expected `int`") for each in NOT_AN_OFFSET),
    *(({"last": each}, "$.last", "Expected `int`") for each in [0, *NOT_AN_OFFSET]),
    ({"since": {"epoch": "e", "offset": 1}, "last": 1}, "$.last", "expected either `since` or `last`"),
]


@pytest.mark.parametrize(("fields", "path", "message"), MALFORMED, ids=lambda value: repr(value)[:60])
def test_a_malformed_request_is_refused_under_its_id_with_its_path(
    form: Tongue, fields: dict[str, Any], path: str, message: str
) -> None:
    value = {**({} if "leave" in fields else {"join": "a"}), **fields, "id": 7}
    with pytest.raises(ValidationFailed, match=message) as caught:
        form.dialect.read(form.pack(value), "sid")
    assert (caught.value.id, caught.value.path) == (7, path)


@pytest.mark.parametrize("key", ["join", "leave"])
@pytest.mark.parametrize("rest", ["", '"since":{"epoch":"e","offset":1},', '"last":0,'])
def test_half_of_a_surrogate_pair_is_invalid_under_its_id(key: str, rest: str) -> None:
    texts = [
        f'{{{rest}"{key}":"\\ud83d","id":7}}',
        f'{{{rest}"id":7,"error":5,"{key}":"\\ud83d"}}',
        f'{{"join":"a","since":{{"epoch":"\\udc00","offset":1}},{rest}"id":7}}',
    ]
    for text in texts:
        with pytest.raises(InvalidMessage, match="half of a surrogate pair") as caught:
            JsonDialect(10_000).read(text, "sid")
        assert caught.value.id == 7


@pytest.mark.parametrize("key", [b"\xa4join", b"\xa5leave"])
def test_a_name_that_is_not_utf_8_is_invalid_under_its_id(key: bytes) -> None:
    for data in (b"\x82" + key + b"\xa1\xff\xa2id\x07", b"\x82\xa2id\x07" + key + b"\xa1\xff"):
        with pytest.raises(InvalidMessage, match="not UTF-8") as caught:
            MsgpackDialect(10_000).read(data, "sid")
        assert caught.value.id == 7


@pytest.mark.parametrize("depth", [*range(100, 130), 150, 400, *range(900, 1_010), 100_000])
def test_nesting_of_any_depth_is_refused_or_read(depth: int) -> None:
    for place in ('"join":%s', '"join":"a","since":{"epoch":"e","offset":1,"x":%s}', '"join":"a","x":%s', '"x":%s'):
        text = "{" + place % ("[" * depth + "]" * depth) + ',"id":7}'
        try:
            JsonDialect(1_000_000).read(text, "sid")
        except (UndecodableMessage, ValidationFailed) as error:
            assert error.id in (None, 7)  # noqa: PT017
    with pytest.raises(InvalidMessage, match="nested more than 128 deep"):
        MsgpackDialect(1_000_000).read(b"\x82\xa4join" + b"\x91" * 200 + b"\xc0\xa2id\x07", "sid")


keys = st.sampled_from(["ack", "event", "join", "leave", "id", "since", "last", "args", "error", "x"])
likely = (
    values
    | st.sampled_from([0, 1, 7, "lot:7", None, True, -1, 2**53])
    | st.fixed_dictionaries({}, optional={"epoch": values, "offset": values | st.integers(-1, 9)})
)


def expected(value: dict[str, Any]) -> str:
    """Return how an object is read, by its keys and its id alone."""
    number = value.get("id")
    for key in ("ack", "event"):
        if key in value:
            return key
    for key in ("join", "leave"):
        if key in value and type(number) is int and 0 <= number <= MAX_ACK:
            return key
    return "message"


def kind_of(incoming: object) -> str:
    """Return how an object was read."""
    if isinstance(incoming, Incoming):
        is_message = incoming.event == "message" and incoming.id is UNSET
        return "ack" if incoming.ack is not UNSET else "message" if is_message else "event"
    return "join" if isinstance(incoming, Joining) else "leave"


@given(forms, st.dictionaries(keys, likely, max_size=6))
def test_any_object_is_read_as_one_of_five_by_the_rule(form: Tongue, value: dict[str, Any]) -> None:
    kind = expected(value)
    try:
        incoming = form.dialect.read(form.pack(value), "sid")
    except MessageError as error:
        refused = (ValidationFailed, value["id"]) if kind in ("join", "leave") else (InvalidMessage, error.id)
        assert kind != "message"
        assert (type(error), error.id) == refused  # noqa: PT017
        return
    if not (kind == "event" and value["event"] == "message"):
        assert kind_of(incoming) == kind
    if kind == "message":
        assert isinstance(incoming, Incoming)
        assert form.unpack(incoming.args) == [value]


@given(forms, st.dictionaries(keys, likely, max_size=6), st.data())
def test_what_is_cut_or_garbled_raises_nothing_else(form: Tongue, value: dict[str, Any], data: st.DataObject) -> None:
    message = form.pack(value)
    start = data.draw(st.integers(0, len(message)))
    end = data.draw(st.integers(start, len(message)))
    if isinstance(message, str):
        garbled: str | bytes = message[:start] + data.draw(st.text(max_size=4)) + message[end:]
    else:
        garbled = message[:start] + data.draw(st.binary(max_size=4)) + message[end:]
    try:
        assert kind_of(form.dialect.read(garbled, "sid"))
    except MessageError as error:
        assert error.id is None or 0 <= error.id <= MAX_ACK  # noqa: PT017


# What clients that know of channels are told


class Seat(msgspec.Struct):
    name: str
    bids: dict[int, int] = {}


class Member(msgspec.Struct):
    account: str
    session: str
    info: Any = None


ANN = Member("ann", "one", Seat("A", {7: 1}))
ANN_SHOWN = {"account": "ann", "session": "one", "info": {"name": "A", "bids": {"7": 1}}}
BEN = Member("ben", "two")
BEN_SHOWN = {"account": "ben", "session": "two", "info": None}
WRITTEN: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "presence": (
        "write_presence",
        ([("join", ANN), ("leave", BEN), ("update", ANN)],),
        {"presence": [["join", ANN_SHOWN], ["leave", BEN_SHOWN], ["update", ANN_SHOWN]]},
    ),
    "members": ("write_members", ([ANN, BEN],), {"members": [ANN_SHOWN, BEN_SHOWN]}),
    "no members": ("write_members", ([],), {"members": []}),
    "count": ("write_count", (1_500,), {"count": 1_500}),
    "joined by the server": (
        "write_server_join",
        (Joined("lot:7", epoch="e", offset=5, members=[BEN]),),
        {"joined": {"channel": "lot:7", "epoch": "e", "offset": 5, "members": [BEN_SHOWN]}},
    ),
    "left": ("write_left", ("kicked",), {"left": "kicked"}),
    "gap": ("write_gap", ("e", 3, 9), {"gap": {"epoch": "e", "from": 3, "to": 9}}),
    "gap without end": ("write_gap", ("e", 3, None), {"gap": {"epoch": "e", "from": 3, "to": None}}),
}


@pytest.mark.parametrize(("method", "args", "shown"), WRITTEN.values(), ids=WRITTEN)
def test_what_there_is_to_say_of_a_channel_is_for_those_that_know_of_channels(
    aware: Tongue, method: str, args: tuple[Any, ...], shown: dict[str, Any]
) -> None:
    packet = getattr(aware.dialect, method)("lot:7", *args)
    assert aware.sent(packet) == {"channel": "lot:7", **shown}
    for dialect in PLAIN:
        assert getattr(dialect, method)("lot:7", *args) is None


@pytest.mark.parametrize(
    ("joined", "shown"),
    [
        (Joined("news"), {"channel": "news"}),
        (Joined("news", recovered=False), {"channel": "news", "recovered": False}),
        (
            Joined("news", epoch="e", offset=0, recovered=True, count=1_500, certain=False),
            {"channel": "news", "epoch": "e", "offset": 0, "recovered": True, "count": 1_500, "certain": False},
        ),
    ],
)
def test_the_answer_to_a_join_has_what_the_channel_has(form: Tongue, joined: Joined, shown: dict[str, Any]) -> None:
    assert form.sent(form.dialect.write_answer(7, (joined,))) == {"ack": 7, "args": [shown]}


GOLDEN: dict[bytes, tuple[str, tuple[Any, ...]]] = {
    b'{"event":"bid","args":[1,"\xc3\xa9"],"channel":"lot:7","offset":12}': ("write_in_channel", ("lot:7", 12)),
    b'{"event":"bid","args":[1,"\xc3\xa9"],"channel":"lot:7","offset":0}': ("write_in_channel", ("lot:7", 0)),
    b'{"event":"bid","args":[1,"\xc3\xa9"],"channel":"\\"\xc3\xa9\\\\"}': ("write_in_channel", ('"é\\',)),
    b'{"channel":"lot:7","left":"\\"kicked\\""}': ("write_left", ("lot:7", '"kicked"')),
    b'{"channel":"lot:7","count":0}': ("write_count", ("lot:7", 0)),
    b'{"channel":"lot:7","gap":{"epoch":"e","from":1,"to":null}}': ("write_gap", ("lot:7", "e", 1, None)),
}


@pytest.mark.parametrize(("golden", "call"), GOLDEN.items(), ids=lambda value: str(value)[:40])
def test_each_frame_is_this_text_and_the_same_fields_in_messagepack(golden: bytes, call: tuple[str, Any]) -> None:
    method, args = call
    begin = ("bid", (1, "é")) if method == "write_in_channel" else ()
    packet: OutgoingPacket = getattr(ChannelJsonDialect(10_000), method)(*begin, *args)
    assert (packet.prefix, packet.data, packet.binary) == (b"4", golden, False)
    packed: OutgoingPacket = getattr(ChannelMsgpackDialect(10_000), method)(*begin, *args)
    assert (packed.prefix, packed.binary) == (b"", True)
    assert [*msgspec.msgpack.decode(packed.data).items()] == [*json.loads(golden).items()]


@pytest.mark.parametrize("dialect", PLAIN[:3], ids=lambda dialect: type(dialect).__name__)
def test_others_get_a_plain_event(dialect: Dialect) -> None:
    in_channel = dialect.write_in_channel("bid", (1, {"a": 2}), "lot:7", 12)
    assert in_channel.data == dialect.write_event("bid", (1, {"a": 2})).data


def test_a_raw_client_gets_the_bare_argument() -> None:
    assert RawDialect().write_in_channel("message", ("text",), "lot:7", 12).data == b"text"
    with pytest.raises(ValueError, match="only 'message'"):
        RawDialect().write_in_channel("bid", ("text",), "lot:7", 12)


channels = st.text(st.characters(codec="utf-8"), max_size=20)
offsets = st.none() | st.integers(0, MAX_ACK)


@given(st.sampled_from([form.values[0] for form in AWARE]), channels, st.lists(values, max_size=3), channels, offsets)
def test_an_event_of_a_channel_is_the_event_with_its_place(
    aware: Tongue, event: str, args: list[Any], channel: str, offset: int | None
) -> None:
    packet = aware.dialect.write_in_channel(event, tuple(args), channel, offset)
    place = {"channel": channel} if offset is None else {"channel": channel, "offset": offset}
    assert aware.sent(packet) == {"event": event, "args": args, **place}
    incoming = aware.back(packet)
    assert (incoming.event, aware.unpack(incoming.args)) == (event, args)


def test_what_no_client_could_read_is_the_callers_error(aware: Tongue) -> None:
    for wrong in (float("nan"), [float("inf")], {"deep": {"er": float("nan")}}):
        with pytest.raises(ValueError, match="JSON has no such number"):
            aware.dialect.write_in_channel("bid", (wrong,), "lot:7", 1)
        with pytest.raises(ValueError, match="JSON has no such number"):
            aware.dialect.write_members("lot:7", [Member("ann", "one", wrong)])
        with pytest.raises(ValueError, match="JSON has no such number"):
            aware.dialect.write_answer(7, (Joined("lot:7", members=[Member("ann", "one", wrong)]),))
    with pytest.raises(TypeError, match="cannot encode"):
        aware.dialect.write_presence("lot:7", [("join", Member("ann", "one", object()))])


def test_all_else_is_as_for_clients_that_know_of_no_channels(aware: Tongue) -> None:
    plain = JsonDialect(10_000) if aware.is_json else MsgpackDialect(10_000)
    for method, args in (
        ("write_event", ("bid", (1,))),
        ("write_event", ("bid", (1,), 5)),
        ("write_message", ({"event": "bid"},)),
        ("write_answer", (7, (1,))),
        ("write_session", ("ann", "one")),
    ):
        assert getattr(aware.dialect, method)(*args).data == getattr(plain, method)(*args).data

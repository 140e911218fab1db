"""Which dialect a client speaks."""

from __future__ import annotations

from typing import Any

import pytest

from primacron.config import read_options
from primacron.dialects.channels import ChannelJsonDialect, ChannelMsgpackDialect
from primacron.dialects.choice import Dialects
from primacron.dialects.primacron import JsonDialect, MsgpackDialect
from primacron.dialects.primus import PrimusDialect
from primacron.dialects.raw import RawDialect
from primacron.errors import BadRequest, InvalidMessage
from primacron.web import Query

ours = Dialects(read_options({}))
raw = Dialects(read_options({"dialect": "raw"}))


@pytest.mark.parametrize(
    ("dialects", "query", "kind"),
    [
        (ours, "", JsonDialect),
        (ours, "format=json", JsonDialect),
        (ours, "format=msgpack", MsgpackDialect),
        (ours, "format=json&format=msgpack", JsonDialect),
        (ours, "_primuscb=MGqI-U8", PrimusDialect),
        (ours, "_primuscb", PrimusDialect),
        (ours, "_primuscb=x&format=msgpack", PrimusDialect),
        (ours, "_PRIMUSCB=x", JsonDialect),
        (ours, "resume=1", ChannelJsonDialect),
        (ours, "resume=1&format=msgpack", ChannelMsgpackDialect),
        (ours, "resume=0", JsonDialect),
        (ours, "resume", JsonDialect),
        (ours, "_primuscb=x&resume=1", PrimusDialect),
        (raw, "resume=1", RawDialect),
        (raw, "", RawDialect),
        (raw, "format=msgpack", RawDialect),
        (raw, "format=xml", RawDialect),
        (raw, "_primuscb=x", PrimusDialect),
    ],
)
def test_the_query_chooses_and_the_option_says_what_is_usual(dialects: Dialects, query: str, kind: type) -> None:
    assert type(dialects.choose(Query(query))) is kind
    assert dialects.choose(Query(query)) is dialects.choose(Query(query)), "one object for all"


@pytest.mark.parametrize("dialects", [ours, raw])
@pytest.mark.parametrize("query", ["", "format=msgpack", "_primuscb=x"])
def test_a_client_that_joins_a_channel_later_changes_to_the_dialect_of_one_that_resumes(
    dialects: Dialects, query: str
) -> None:
    usual, aware = dialects.choose(Query(query)), dialects.choose(Query(f"{query}&resume=1"))
    assert dialects.aware(usual) is dialects.aware(aware) is aware
    assert dialects.plain(usual) is dialects.plain(aware) is usual
    assert (aware.name, aware.form, aware.answers) == (usual.name, usual.form, usual.answers)


@pytest.mark.parametrize("name", ["", "xml", "JSON", "msgpack2", "__class__", "main", "msgpack%00"])
def test_a_format_that_there_is_not_is_refused(name: str) -> None:
    with pytest.raises(BadRequest, match="'format': expected json or msgpack"):
        ours.choose(Query(f"format={name}"))


@pytest.mark.parametrize("query", ["", "format=msgpack", "_primuscb=x"])
def test_all_know_the_limit_of_elements(query: str) -> None:
    dialect = Dialects(read_options({"max_items": 3})).choose(Query(query))
    message: Any = b"\x94\x01\x01\x01\x01" if dialect.form.name == "MSGPACK" else "[1,1,1,1]"
    with pytest.raises(InvalidMessage, match="more than 3 elements"):
        dialect.read(message, "sid")


@pytest.mark.parametrize(
    ("given", "may_poll"),
    [
        ({}, True),
        ({"transports": ["websocket"]}, False),
        ({"protocols": [3]}, False),
        ({"transports": ["polling"], "protocols": [4]}, True),
    ],
)
def test_the_raw_dialect_knows_whether_a_text_may_be_split(given: dict[str, Any], may_poll: bool) -> None:
    main = Dialects(read_options({"dialect": "raw", **given})).main
    if may_poll:
        with pytest.raises(ValueError, match=r"U\+001E"):
            main.write_message("\x1e")
    else:
        assert main.write_message("\x1e").data == b"\x1e"

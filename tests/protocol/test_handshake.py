"""What the query of a request says, and the open packet."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primacron.config import Options, read_options
from primacron.errors import AccountRefused, BadRequest, UnknownTransport, UnsupportedVersion
from primacron.protocol.handshake import (
    V4,
    Format,
    OpenPackets,
    TransportName,
    read_account,
    read_format,
    read_sid,
    read_transport,
)
from primacron.web import Query
from tests.support.naming import brief

BOTH = ("polling", "websocket")


# The transport


@pytest.mark.parametrize("name", BOTH)
def test_an_offered_transport_is_taken(name: str) -> None:
    assert read_transport(Query(f"EIO=4&transport={name}"), BOTH) is TransportName(name)
    assert read_transport(Query(f"transport={name}"), (name,)) is TransportName(name)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "transport",
        "transport=",
        "transport=webtransport",
        "transport=__proto__",
        "transport=constructor",
        "transport=toString",
        "transport=__class__",
        "transport=__init__",
        "transport=name",
        "transport=POLLING",
        "transport=Polling",
        "transport=polling%00",
        "transport=+polling",
        "transport=polling,websocket",
        "transport=polling&transport=websocket",
        "transport=polling&transport=polling",
        "transport=polling&%74ransport=polling",
        "Transport=polling",
        "transport=" + "polling" * 10_000,
    ],
    ids=brief,
)
def test_any_other_transport_is_unknown(query: str) -> None:
    with pytest.raises(UnknownTransport) as caught:
        read_transport(Query(query), BOTH)
    assert str(caught.value).startswith("Transport unknown: parameter 'transport' is ")
    assert str(caught.value).endswith(", expected one of polling, websocket (option 'transports')")
    assert len(str(caught.value)) < 250
    assert (caught.value.http_status, caught.value.engine_code) == (400, 0)


def test_a_transport_that_is_not_offered_is_unknown() -> None:
    with pytest.raises(UnknownTransport):
        read_transport(Query("transport=websocket"), ("polling",))


@pytest.mark.parametrize("index", ["j=0", "j", "j=", "j=<script>", "j=0&j=1", "%6a=0"])
def test_jsonp_is_refused(index: str) -> None:
    with pytest.raises(BadRequest, match=r"JSONP \(parameter 'j'\) is not offered") as caught:
        read_transport(Query(f"transport=polling&{index}"), BOTH)
    assert (caught.value.http_status, caught.value.engine_code) == (400, 3)


# The sid


@pytest.mark.parametrize(
    ("query", "sid"),
    [("", None), ("sid=abc", "abc"), ("sid=", ""), ("sid", ""), ("SID=abc", None), ("sid=__proto__", "__proto__")],
)
def test_the_sid_is_what_the_query_says(query: str, sid: str | None) -> None:
    assert read_sid(Query(query)) == sid


@pytest.mark.parametrize("query", ["sid=a&sid=b", "sid=a&sid=a", "sid&sid=a", "sid=a&%73id=a"])
def test_a_repeated_sid_is_refused(query: str) -> None:
    with pytest.raises(BadRequest, match="sid is given more than once"):
        read_sid(Query(query))


# The format


@pytest.mark.parametrize("version", [4, 3])
def test_the_version_is_taken_when_it_is_offered(version: int) -> None:
    assert read_format(Query(f"EIO={version}"), (4, 3)) == Format(version, False)
    assert read_format(Query(f"EIO={version}"), (version,)) == Format(version, False)
    with pytest.raises(UnsupportedVersion):
        read_format(Query(f"EIO={7 - version}"), (version,))


def test_the_usual_format_is_one_object_for_all() -> None:
    assert read_format(Query("EIO=4"), (4, 3)) is V4
    assert read_format(Query("EIO=3"), (4, 3)) is read_format(Query("EIO=3&b64=0"), (4, 3))


@pytest.mark.parametrize(
    "query",
    [
        "",
        "EIO",
        "EIO=",
        "EIO=5",
        "EIO=2",
        "EIO=abc",
        "EIO=44",
        "EIO=04",
        "EIO=4.0",
        "EIO=+4",
        "EIO=-4",
        "EIO=%D9%A4",  # a 4 for int()
        "EIO=4%00",
        "EIO=4&EIO=4",
        "EIO=4&EIO=3",
        "eio=4",
        "EIO=" + "4" * 5_000,
    ],
    ids=brief,
)
def test_any_other_version_is_refused(query: str) -> None:
    with pytest.raises(UnsupportedVersion) as caught:
        read_format(Query(query), (4, 3))
    assert str(caught.value).startswith("Unsupported protocol version: parameter 'EIO' is ")
    assert str(caught.value).endswith(", expected one of 4, 3 (option 'protocols')")
    assert len(str(caught.value)) < 250
    assert (caught.value.http_status, caught.value.engine_code) == (400, 5)


@pytest.mark.parametrize(
    ("query", "base64"),
    [
        ("b64=1", True),
        ("b64=true", True),
        ("b64=1&b64=0", True),
        ("b64=0", False),
        ("b64=", False),
        ("b64", False),
        ("b64=2", False),
        ("b64=<script>", False),
    ],
)
@pytest.mark.parametrize("version", [4, 3])
def test_a_client_may_ask_for_base64(query: str, base64: bool, version: int) -> None:
    assert read_format(Query(f"EIO={version}&{query}"), (4, 3)) == Format(version, base64)


# The account


@pytest.mark.parametrize(
    "account",
    [
        "ann",
        " ",
        "a b",
        "a:b",
        "a::b",
        "*",
        "?[a-z]",
        "../etc/passwd",
        "a@b",
        "a%b",
        "a{b}",
        "error::json",
        "__proto__",
        "béa",
        "аnn",  # noqa: RUF001 (a Cyrillic letter: another account than "ann")
        "😀" * 128,
        "\u200bann",
        "\u2028",
        "a" * 128,
    ],
    ids=brief,
)
def test_any_text_of_1_to_128_characters_without_controls_is_an_account_as_it_is(account: str) -> None:
    assert read_account(Query(f"account={quote(account, safe='')}")) == account


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("", "is missing"),
        ("Account=ann", "is missing"),
        ("account", "is not usable"),
        ("account=", "is not usable"),
        ("account=" + "a" * 129, "is not usable"),
        ("account=" + "a" * 1_000_000, "is not usable"),
        ("account=" + "%F0%9F%98%80" * 129, "is not usable"),
        ("account=a%00", "is not usable"),
        ("account=%0a", "is not usable"),
        ("account=a%7f", "is not usable"),
        ("account=a%C2%85", "is not usable"),
        ("account=%ff", "is not usable"),
        ("account=%ED%A0%80", "is not usable"),
        ("account=%EF%BF%BD", "is not usable"),
        ("account=ann&account=ann", "is given more than once"),
        ("account=ann&account=bob", "is given more than once"),
        ("account=ann&%61ccount=bob", "is given more than once"),
        ("account=&account=", "is given more than once"),
    ],
    ids=brief,
)
def test_any_other_account_is_refused_with_the_reason(query: str, words: str) -> None:
    with pytest.raises(
        AccountRefused, match=f"account {words}: the query has to have exactly one, of 1 to 128 characters"
    ) as caught:
        read_account(Query(query))
    assert (caught.value.http_status, caught.value.engine_code) == (400, 3)
    assert len(str(caught.value)) < 200


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="\ufffd"), min_size=1))
def test_an_account_survives_the_query_or_is_too_long(account: str) -> None:
    query = Query(f"EIO=4&account={quote(account, safe='')}&t=1")
    if len(account) <= 128:
        assert read_account(query) == account
    else:
        with pytest.raises(AccountRefused):
            read_account(query)


# The open packet


def test_the_open_packet_has_its_fields_in_the_usual_order() -> None:
    packets = OpenPackets(Options())
    assert packets.encode("SID", TransportName.POLLING).text(4) == (
        b'0{"sid":"SID","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}'
    )
    assert packets.encode("SID", TransportName.WEBSOCKET).text(4) == (
        b'0{"sid":"SID","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}'
    )


def test_the_open_packet_tells_the_options() -> None:
    options = read_options({"transports": ["polling"], "ping_interval": 0.3, "ping_timeout": 0.2501, "max_payload": 5})
    opened = json.loads(OpenPackets(options).encode("SID", TransportName.POLLING).data)
    assert opened == {"sid": "SID", "upgrades": [], "pingInterval": 300, "pingTimeout": 250, "maxPayload": 5}

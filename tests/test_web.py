"""Requests as plain data: the query, cookies, the bearer."""

from __future__ import annotations

import json
from http.cookies import SimpleCookie
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primacron.errors import QueryTooLarge
from primacron.web import HttpRequest, Query, json_response
from tests.support.naming import brief

texts = st.text(st.characters(codec="utf-8"))


# The query


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("&", {}),
        ("&&a=1&&", {"a": "1"}),
        ("a", {"a": ""}),
        ("a=", {"a": ""}),
        ("=b", {"": "b"}),
        ("=", {"": ""}),
        ("a=b=c", {"a": "b=c"}),
        ("a=1&b=2", {"a": "1", "b": "2"}),
        ("a=1&A=2", {"a": "1", "A": "2"}),
        ("a=1;b=2", {"a": "1;b=2"}),
        ("a=%41%3d%26", {"a": "A=&"}),
        ("%61%3D=1", {"a=": "1"}),
        ("a=%c3%a9", {"a": "é"}),
        ("a=%F0%9F%98%80", {"a": "😀"}),
        ("a=é", {"a": "é"}),
        ("a=+", {"a": " "}),
        ("a+b=c+d", {"a b": "c d"}),
        ("a=%2B", {"a": "+"}),
        ("a=%2b+%20", {"a": "+  "}),
        ("a=%00", {"a": "\x00"}),
        ("a=%0d%0a", {"a": "\r\n"}),
        ("a=%2500", {"a": "%00"}),  # decoded once
        ("a=%26amp%3B", {"a": "&amp;"}),
        ("__class__=1", {"__class__": "1"}),
        ("a[]=1", {"a[]": "1"}),
        ("a?b=1", {"a?b": "1"}),
        ("a=#", {"a": "#"}),
    ],
)
def test_a_query_is_names_and_values_percent_decoded(text: str, values: dict[str, str]) -> None:
    query = Query(text)
    assert dict(query) == values
    assert not query.repeated


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=%", "%"),
        ("a=%%", "%%"),
        ("a=%4", "%4"),
        ("a=%zz", "%zz"),
        ("a=%4g", "%4g"),
        ("a=%u0041", "%u0041"),
        ("a=% 41", "% 41"),
        ("a=%+41", "% 41"),
        ("a=%-1", "%-1"),
        ("a=%٤١", "%٤١"),
        ("a=%41%", "A%"),
        ("a=%25%", "%%"),
    ],
)
def test_broken_escapes_stay_as_they_are(text: str, value: str) -> None:
    assert Query(text)["a"] == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=%ff", "\ufffd"),
        ("a=%c3", "\ufffd"),
        ("a=%c3%28", "\ufffd("),
        ("a=%ed%a0%80", "\ufffd" * 3),
        ("a=%c0%80", "\ufffd" * 2),
        ("a=x%ffy", "x\ufffdy"),
    ],
)
def test_broken_utf8_shows_as_replaced(text: str, value: str) -> None:
    assert Query(text)["a"] == value


@pytest.mark.parametrize(
    ("text", "first", "repeated"),
    [
        ("a=1&a=2", "1", {"a"}),
        ("a=1&a=1", "1", {"a"}),
        ("a&a", "", {"a"}),
        ("a=1&b=2&a=3&b=4&c=5", "1", {"a", "b"}),
        ("a=1&%61=2", "1", {"a"}),
        ("%61=1&a=2", "1", {"a"}),
        ("a=1&A=2", "1", set()),
    ],
)
def test_of_a_repeated_name_the_first_counts_and_the_name_is_remembered(
    text: str, first: str, repeated: set[str]
) -> None:
    query = Query(text)
    assert query["a"] == first
    assert query.repeated == repeated


@given(st.dictionaries(texts, texts, max_size=100))
def test_what_was_encoded_decodes_to_itself(values: dict[str, str]) -> None:
    for text in (urlencode(values), urlencode(values, quote_via=quote)):
        query = Query(text)
        assert query.text == text
        assert dict(query) == values
        assert not query.repeated


@given(st.text() | st.text("a=&%+0fF\x00é"))
def test_any_text_is_a_query(text: str) -> None:
    query = Query(text)
    assert query.repeated <= query.keys()


@pytest.mark.parametrize("text", ["%" * 65_536, "a=" + "%ff" * 20_000, "a=1&" * 99, "&" * 99], ids=brief)
def test_a_long_query_is_read_like_a_short_one(text: str) -> None:
    assert len(Query(text)) <= 2


@pytest.mark.parametrize("text", ["&" * 100, "&" * 65_536, "a=1&" * 16_384, "%&" * 32_768], ids=brief)
def test_more_parameters_than_anybody_needs_are_refused_before_they_are_read(text: str) -> None:
    came = text.count("&") + 1
    with pytest.raises(QueryTooLarge, match=f"may have at most 100 parameters, and has {came}$") as caught:
        Query(text)
    assert caught.value.http_status == 400


# Cookies


def cookies(field: str) -> dict[str, str]:
    return HttpRequest("GET", "/", "", {"cookie": field}).cookies


@pytest.mark.parametrize(
    ("field", "found"),
    [
        ("", {}),
        ("a=1", {"a": "1"}),
        ("a=1; b=2", {"a": "1", "b": "2"}),
        ("a=1;b=2", {"a": "1", "b": "2"}),
        (" a = 1 ;  b=2 ", {"a": "1", "b": "2"}),
        ("a=b=c==", {"a": "b=c=="}),
        ("a=", {"a": ""}),
        ("a=%20", {"a": "%20"}),
        ('a="1"', {"a": "1"}),
        ('a="x y"', {"a": "x y"}),
        ('a="1\\"2\\\\"', {"a": '1"2\\'}),
        ('a="\\073\\054\\351"', {"a": ";,é"}),
        ('a="\\777\\08"', {"a": "77708"}),
        ('a="', {"a": '"'}),
        ('a=""', {"a": ""}),
        ('a=1"2', {"a": '1"2'}),
        ("a=1; a=2", {"a": "2"}),
        ("path=/; expires=never; secure=1", {"path": "/", "expires": "never", "secure": "1"}),
        ("__Host-sid=1; $Version=1", {"__Host-sid": "1", "$Version": "1"}),
    ],
)
def test_cookies_are_names_and_values(field: str, found: dict[str, str]) -> None:
    assert cookies(field) == found


@pytest.mark.parametrize(
    "other",
    [
        "x",
        "=x",
        "=",
        "",
        ";",
        '{"theme":"dark"}',
        'prefs={"theme":"dark","n":[1,2]}',
        "a[0]=1",
        "é=1",
        "a=é",
        "a=\x01",
        "a b=1",
        "a=1,b=2",
        'a="1',
    ],
)
def test_a_malformed_cookie_hides_no_other(other: str) -> None:
    for field in (f"{other}; sid=abc", f"sid=abc; {other}", f"a=0; {other}; sid=abc; b=0"):
        assert cookies(field)["sid"] == "abc"


def test_without_the_field_there_are_none() -> None:
    assert HttpRequest("GET", "/", "", {}).cookies == {}


@given(st.text())
def test_any_text_is_a_cookie_field(field: str) -> None:
    for name, value in cookies(field).items():
        assert name
        assert name in field
        assert len(value) <= len(field)


@given(
    st.dictionaries(
        st.text("abcXYZ-_.", min_size=1).filter(lambda name: name.lower() != "path"),
        st.text(st.characters(max_codepoint=255)),
    )
)
def test_what_pythons_cookies_write_is_read_back(values: dict[str, str]) -> None:
    jar: SimpleCookie = SimpleCookie()
    for name, value in values.items():
        jar[name] = value
    assert cookies("; ".join(morsel.OutputString() for morsel in jar.values())) == values


# The bearer


@pytest.mark.parametrize(
    ("field", "token"),
    [
        ("Bearer abc", "abc"),
        ("bearer abc", "abc"),
        ("BEARER abc", "abc"),
        ("Bearer  abc ", "abc"),
        ("Bearer a b", "a b"),
        ("Bearer a=b~+/.-_", "a=b~+/.-_"),
        ("Bearer", None),
        ("Bearer ", None),
        ("Bearer  ", None),
        ("Bearerabc", None),
        ("Bearer\tabc", None),
        ("Basic abc", None),
        ("abc", None),
        ("", None),
        (" Bearer abc", None),
        ("Bearer: abc", None),
    ],
)
def test_the_bearer_is_the_token_of_that_scheme(field: str, token: str | None) -> None:
    assert HttpRequest("GET", "/", "", {"authorization": field}).bearer == token


def test_without_the_field_there_is_no_bearer() -> None:
    assert HttpRequest("GET", "/", "", {}).bearer is None


# Requests and answers


def test_a_request_shows_what_came() -> None:
    request = HttpRequest("GET", "/stream/", "a=1&a=2", {"host": "Shop.example"}, peer="::1", secure=True)
    assert (request.host, request.peer, request.secure) == ("Shop.example", "::1", True)
    assert request.query["a"] == "1"
    assert request.query is request.query


def test_json_answers_are_compact_and_say_what_they_are() -> None:
    response = json_response(503, {"status": 503, "why": "é"}, (b"Retry-After", b"1"))
    assert response.body == b'{"status":503,"why":"\\u00e9"}'
    assert json.loads(response.body) == {"status": 503, "why": "é"}
    assert response.headers == ((b"Content-Type", b"application/json"), (b"Retry-After", b"1"))

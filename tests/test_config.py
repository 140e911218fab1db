"""Options: values at the edge of what each takes; the errors are in the tests of construction."""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primacron.config import ALIASES, FIELDS, Cookie, Options, read_options
from primacron.errors import OptionError, UnknownOption
from primacron.web import HttpRequest


def taken(name: str, value: Any) -> Any:
    """Return what an option makes of a value."""
    return getattr(read_options({name: value}), ALIASES.get(name, name))


def is_refused(name: str, value: Any) -> bool:
    """Tell whether an option refuses a value; in any other words than its own the test fails."""
    try:
        read_options({name: value})
    except OptionError as error:
        return error.option == name and str(error).startswith(f"option {name!r}: expected ")
    return False


# Every option


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize(
    "value",
    [object(), 1j, [object()], {1: 2}, -1, "\x00", b"\xff", float("nan")],
    ids=lambda value: type(value).__name__,
)
def test_no_option_takes_what_makes_no_sense_and_each_says_so_in_its_own_words(name: str, value: Any) -> None:
    if name in ("namespace", "address") and value == "\x00":
        value = b"text that is none"
    assert is_refused(name, value)


@given(
    st.sampled_from(sorted(FIELDS)),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=4,
    ),
)
def test_any_value_is_taken_or_refused_in_the_options_own_words(name: str, value: Any) -> None:
    with contextlib.suppress(OptionError):
        read_options({name: value})
        return
    assert is_refused(name, value)


@pytest.mark.parametrize("name", ["", "Namespace", "namespace ", "__class__", "__init__", "broadcast-path", "1"])
def test_names_are_exact(name: str) -> None:
    with pytest.raises(UnknownOption) as caught:
        read_options({name: 1})
    assert str(caught.value).startswith(f"unknown option {name!r};")
    assert all(known in str(caught.value) for known in FIELDS)


def test_options_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Options().namespace = "other"  # type: ignore[misc]


# Kinds


@pytest.mark.parametrize("name", ["endpoint", "broadcast_path", "broadcast"])
@pytest.mark.parametrize(
    "path", ["", "a", " /a", "/a b", "/a\n", "/a\r\n", "/é", "/a\x00", "/a\x7f", "/a?", "/a?b=1", "/a#b"]
)
def test_a_path_is_printable_ascii_without_query_and_line_end(name: str, path: str) -> None:
    assert is_refused(name, path)


@pytest.mark.parametrize(
    ("given", "path"),
    [("/", "/"), ("/a", "/a/"), ("/a/", "/a/"), ("/a/b.c", "/a/b.c/"), ("/a%20b", "/a%20b/"), ("//", "//")],
)
def test_the_endpoint_ends_with_a_slash(given: str, path: str) -> None:
    assert taken("endpoint", given) == path


@pytest.mark.parametrize(
    "given",
    [
        {"broadcast": "/live/", "endpoint": "/live"},
        {"broadcast": "/live", "endpoint": "/live/"},
        {"broadcast": "/stream/"},
        {"endpoint": "/primacron/broadcast"},
        {"broadcast": "/primacron/livez"},
        {"broadcast_path": "/primacron/readyz"},
    ],
)
def test_two_things_cannot_have_one_path(given: dict[str, str]) -> None:
    with pytest.raises(OptionError, match="a path that nothing else has"):
        read_options(given)


@pytest.mark.parametrize("url", ["https://shop.example/", "http://a", "/", "/login?next=/", "https://xn--9ca.example/"])
def test_strangers_are_sent_to_a_url_or_a_path(url: str) -> None:
    assert taken("redirect", url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "shop.example",
        "ftp://a",
        "https:/a",
        "javascript:x",
        "https://a\n",
        "/a\n",
        "/a\r\nSet-Cookie: b",
        "https://a b",
        "/é",
        5,
    ],
)
def test_and_nowhere_else(url: Any) -> None:
    assert is_refused("redirect", url)


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("localhost:9000", ("localhost", 9000)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::1]:65535", ("::1", 65535)),
        ("[fe80::1%eth0]:80", ("fe80::1%eth0", 80)),
        ("a-host.example:080", ("a-host.example", 80)),
    ],
)
def test_the_control_address_is_a_host_and_a_port(given: str, address: tuple[str, int]) -> None:
    assert taken("control", given) == address


@pytest.mark.parametrize(
    "given",
    [
        "",
        ":",
        "a",
        "a:",
        ":80",
        "::1",
        "::1:80",
        "[::1]",
        "[::1:80",
        "::1]:80",
        "[]:80",
        "a:65536",
        "a:-1",
        "a:+80",
        "a: 80",
        "a:80 ",
        "a:8_0",
        "a:0x50",
        "a:٨٠",
        "a:80\n",
        "http://a:80",
        "a/b:80",
        "a b:80",
        80,
        ("a", 80),
    ],
)
def test_the_control_address_is_nothing_else(given: Any) -> None:
    assert is_refused("control", given)


@pytest.mark.parametrize("value", [[], (), set(), ["https://a", "https://A", "HTTPS://a:443"]])
def test_a_list_of_origins_may_be_empty_or_repeat_itself(value: Any) -> None:
    assert taken("origins", value) == (frozenset({"https://a"}) if value else frozenset())


def test_origins_may_be_a_plain_function_and_no_other_text() -> None:
    def allow(origin: str, request: HttpRequest) -> bool:
        return True

    async def wait(origin: str, request: HttpRequest) -> bool:
        return True

    assert taken("origins", allow) is allow
    for wrong in (wait, "https://shop.example", "Same", "", [allow], ["https://shop.example", ""], [None]):
        assert is_refused("origins", wrong)


@pytest.mark.parametrize("value", [0, 129, 64.0, "64", None, True])
def test_the_prefix_of_an_address_is_1_to_128_bits(value: Any) -> None:
    assert is_refused("ipv6_prefix", value)
    assert [taken("ipv6_prefix", bits) for bits in (1, 56, 128)] == [1, 56, 128]


@pytest.mark.parametrize(
    ("given", "networks"),
    [
        ([], []),
        (["10.0.0.0/8"], ["10.0.0.0/8"]),
        (["10.1.2.3/8"], ["10.0.0.0/8"]),
        (["127.0.0.1", "::1"], ["127.0.0.1/32", "::1/128"]),
        (("fd00::/8",), ["fd00::/8"]),
        ([ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_address("::1")], ["10.0.0.0/8", "::1/128"]),
    ],
)
def test_proxies_are_networks_or_addresses(given: Any, networks: list[str]) -> None:
    assert taken("trusted_proxies", given) == tuple(map(ipaddress.ip_network, networks))


@pytest.mark.parametrize(
    "given",
    [
        "10.0.0.0/8",
        "",
        [""],
        ["ten"],
        ["10.0.0.0/33"],
        ["10.0.0"],
        ["::1/129"],
        ["localhost"],
        [None],
        [5],
        [True],
        [b"\x0a\x00\x00\x01"],
        [["10.0.0.0", 8]],
        [("10.0.0.0", 8)],
        None,
        5,
        b"\x0a",
    ],
)
def test_proxies_are_nothing_else(given: Any) -> None:
    assert is_refused("trusted_proxies", given)


@pytest.mark.parametrize(
    ("given", "header"),
    [
        ("io", "io=SID; Path=/; HttpOnly; SameSite=Lax"),
        ({}, "io=SID; Path=/; HttpOnly; SameSite=Lax"),
        (
            {"name": "s", "path": "/stream/", "http_only": False, "max_age": 0},
            "s=SID; Path=/stream/; Max-Age=0; SameSite=Lax",
        ),
        ({"same_site": "None", "secure": True}, "io=SID; Path=/; HttpOnly; SameSite=None; Secure"),
        ({"path": None}, "io=SID; HttpOnly; SameSite=Lax"),
        ({"same_site": None}, "io=SID; Path=/; HttpOnly"),
        ({"http_only": None, "secure": None, "max_age": None}, "io=SID; Path=/; SameSite=Lax"),
        ({"path": None, "same_site": None, "http_only": None}, "io=SID"),
        (Cookie(name="__Host-sid", same_site="Strict"), "__Host-sid=SID; Path=/; HttpOnly; SameSite=Strict"),
    ],
)
def test_the_cookie_is_a_name_or_its_parts(given: Any, header: str) -> None:
    assert taken("cookie", given).header("SID") == header


@pytest.mark.parametrize(
    "given",
    [
        "",
        "a b",
        "a;b",
        "a=b",
        "a,b",
        'a"b',
        "a\x00",
        "a\n",
        "é",
        "a/b",
        {"name": ""},
        {"name": None},
        {"path": ""},
        {"path": "x"},
        {"path": "/a;b"},
        {"path": "/é"},
        {"path": "/a\n"},
        {"path": "/a\x7f"},
        {"max_age": -1},
        {"max_age": "5"},
        {"same_site": "lax"},
        {"Name": "a"},
        [],
        5,
        Cookie(name="a;b"),
        Cookie(path="/\r\nSet-Cookie: b"),
    ],
    ids=str,
)
def test_the_cookie_is_nothing_else(given: Any) -> None:
    assert is_refused("cookie", given)


@pytest.mark.parametrize(
    ("given", "secrets"),
    [(None, ()), ((), ()), ("s", ("s",)), (["new", "old"], ("new", "old")), (("a",), ("a",)), ("a b~!", ("a b~!",))],
)
def test_secrets_are_one_text_or_several(given: Any, secrets: tuple[str, ...]) -> None:
    assert taken("secret", given) == secrets


@pytest.mark.parametrize(
    "given", ["", [], [""], ["a", ""], "é", "a\n", "a\x00", b"s", [b"s"], 5, [5], [None], {"a": 1}]
)
def test_secrets_are_nothing_else(given: Any) -> None:
    assert is_refused("secret", given)


class Data(msgspec.Struct):
    count: int = 0


@pytest.mark.parametrize("given", [dict, list, Data, dict[str, int], int, dict | None])
def test_data_is_a_type_that_msgspec_can_write(given: Any) -> None:
    assert taken("data", given) is given


@pytest.mark.parametrize("given", [object, complex, "dict", 5, {}, lambda: 5])
def test_data_is_nothing_else(given: Any) -> None:
    assert is_refused("data", given)


@pytest.mark.parametrize(
    "name", [name for name, field in FIELDS.items() if field.metadata["kind"].takes.endswith("seconds above 0")]
)
def test_seconds_are_above_0_up_to_a_year_with_fractions(name: str) -> None:
    for value in (0.001, 1, 1.5, 31_536_000):
        assert taken(name, value) == value
        assert type(taken(name, value)) is float
    for wrong in (0, 0.0, -0.5, 31_536_001, float("inf"), float("-inf"), float("nan"), True, "1", [1]):
        assert is_refused(name, wrong)


@pytest.mark.parametrize(
    "name", [name for name, field in FIELDS.items() if "integer from 1 to 2147483647" in field.metadata["kind"].takes]
)
def test_counts_are_integers_from_1_to_what_32_bits_hold(name: str) -> None:
    assert taken(name, 1) == 1
    assert taken(name, 2**31 - 1) == 2**31 - 1
    for value in (0, -1, 2**31, 10**20, 1.0, 1.5, True, "1", [1]):
        assert is_refused(name, value)
    assert is_refused(name, None) is (FIELDS[name].default is not None)


# Subclasses of built-in types, and secrets


class Text(str):
    __slots__ = ()


class Real(float):
    pass


class Whole(int):
    pass


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("namespace", "shop"),
        ("endpoint", "/live/"),
        ("broadcast_path", "/put"),
        ("redirect", "/elsewhere"),
        ("address", "shop.example"),
        ("dialect", "raw"),
        ("origins", "*"),
        ("same_session", "refuse"),
        ("without_redis", "refuse"),
        ("ping_interval", 1.5),
        ("lease", 2),
        ("max_items", 7),
        ("max_connections", 7),
        ("port", 7),
    ],
)
def test_a_subclass_of_a_built_in_type_is_taken_as_its_base(name: str, value: Any) -> None:
    own: Any = {str: Text, float: Real, int: Whole}[type(value)](value)
    assert taken(name, own) == value
    assert type(taken(name, own)) is type(taken(name, value))


def test_so_are_those_inside_of_lists_and_mappings() -> None:
    assert [type(secret) for secret in taken("secret", [Text("one"), Text("two")])] == [str, str]
    assert [type(secret) for secret in taken("secret", Text("one"))] == [str]
    assert [type(each) for each in taken("transports", [Text("polling")])] == [str]
    cookie = taken("cookie", {"name": Text("sid"), "path": Text("/live"), "max_age": Whole(5)})
    assert (type(cookie.name), type(cookie.path), cookie.max_age) == (str, str, 5)
    assert cookie == taken("cookie", {"name": "sid", "path": "/live", "max_age": 5})


def test_a_secret_is_shown_neither_in_errors_nor_with_all_options() -> None:
    for wrong in ("geheim\u00fc", ["geheim", 5], {"geheim": 1}):
        with pytest.raises(OptionError, match="got a value that is not shown") as caught:
            read_options({"secret": wrong})
        assert "geheim" not in str(caught.value)
    assert "geheim" not in repr(read_options({"secret": "geheim"}))

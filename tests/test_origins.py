"""Origins: what is one, which are the same, and which are in a list."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primacron.config import read_options
from primacron.errors import OptionError
from primacron.origins import is_listed, is_same, normal_origin, read_listed_origin


@pytest.mark.parametrize(
    ("origin", "normal"),
    [
        ("https://shop.example", "https://shop.example"),
        ("HTTPS://SHOP.Example:443", "https://shop.example"),
        ("http://shop.example:80", "http://shop.example"),
        ("http://shop.example:443", "http://shop.example:443"),
        ("https://shop.example:80", "https://shop.example:80"),
        ("http://shop.example:08080", "http://shop.example:8080"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://my_host", "http://my_host"),
        ("https://[::1]", "https://[::1]"),
        ("https://[2001:DB8:0::80]:443", "https://[2001:db8::80]"),
        ("https://[::1]:8443", "https://[::1]:8443"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
        ("ionic://localhost:80", "ionic://localhost:80"),
        ("https://xn--hlle-5qa.example", "https://xn--hlle-5qa.example"),
    ],
)
def test_an_origin_has_one_spelling_of_scheme_host_and_port(origin: str, normal: str) -> None:
    assert normal_origin(origin) == normal
    assert normal_origin(normal) == normal
    assert read_options({"origins": [origin]}).origins == frozenset({normal})


NONE = [
    "",
    "null",
    "*",
    "shop.example",
    "//shop.example",
    "https://",
    "https:///",
    "https://shop.example/",
    "https://shop.example/path",
    "https://shop.example?",
    "https://shop.example?a",
    "https://shop.example#",
    "https://shop.example#a",
    "https://user@shop.example",
    "https://@shop.example",
    "https://user:pass@shop.example",
    "https://shop.example:",
    "https://shop.example:x",
    "https://shop.example:99999",
    "https://shop.example:100000",
    "https://shop.example:0",
    "https://shop.example:-1",
    "https://shop.example:٨٠",
    "https://shop example",
    "https://shop.exa\tmple",
    "\thttps://shop.example",
    "https://shop.example\t",
    "https://shop.example\n",
    "https://shop.example\r\n",
    " https://shop.example",
    "https://shop.example ",
    "ht\ntps://shop.example",
    "https://hölle.example",
    "https://\u212aelvin.example",  # a letter whose lower case is ASCII
    "https://[::1",
    "https://::1",
    "https://[shop]",
    "https://[1:2]",
    "https://[]",
    "https://a,b",
    "https://a\x01b",
    "https://a\x00",
    "https://a%2eb",
    "https://a\\b",
    "https://\u2100.example",
]


@pytest.mark.parametrize("origin", NONE)
def test_an_origin_is_nothing_else(origin: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (the address of an IPv6 host has words of its own)
        normal_origin(origin)
    with pytest.raises(OptionError):
        read_options({"origins": [origin]})


@given(st.text() | st.text("htps:/@[]#?.*0123456789 %\x00\té").map("https://".__add__))
def test_any_text_is_an_origin_or_a_value_error(text: str) -> None:
    try:
        origin = normal_origin(text)
    except ValueError:
        return
    assert origin == origin.lower() == normal_origin(origin)
    assert origin.isascii()


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("https://*.shop.example", "https://*.shop.example"),
        ("HTTPS://*.Shop.Example:443", "https://*.shop.example"),
        ("http://*.localhost:3000", "http://*.localhost:3000"),
    ],
)
def test_a_list_may_have_the_subdomains_of_a_name(text: str, normal: str) -> None:
    assert read_listed_origin(text) == normal


@pytest.mark.parametrize(
    "text",
    [
        "https://*",
        "https://*.",
        "https://*.example",
        "https://**.shop.example",
        "https://*.*.example",
        "https://a.*.example",
        "https://a*.shop.example",
        "https://*.[::1]",
        "https://*.0.0.1",
        "*.shop.example",
        "*://shop.example",
        "ws://shop.example",
        "wss://shop.example",
    ],
)
def test_a_list_has_no_other_wildcards_and_nothing_that_no_page_has(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        read_listed_origin(text)


LISTED = frozenset(
    map(read_listed_origin, ["https://shop.example", "https://*.shop.example", "http://*.dev.example:3000"])
)


@pytest.mark.parametrize(
    ("origin", "is_in"),
    [
        ("https://shop.example", True),
        ("https://a.shop.example", True),
        ("https://b.a.shop.example", True),
        ("http://a.dev.example:3000", True),
        ("http://shop.example", False),
        ("http://a.shop.example", False),
        ("https://a.shop.example:8443", False),
        ("https://ashop.example", False),
        ("https://shop.example.evil.example", False),
        ("https://example", False),
        ("http://dev.example:3000", False),
        ("http://a.dev.example", False),
        ("capacitor://a.shop.example", False),
        ("https://[::1]", False),
    ],
)
def test_scheme_host_and_port_of_a_listed_origin_count(origin: str, is_in: bool) -> None:
    assert is_listed(normal_origin(origin), LISTED) is is_in


@pytest.mark.parametrize(
    ("origin", "scheme", "host", "same"),
    [
        ("https://shop.example", "https", "shop.example", True),
        ("https://shop.example", "https", "Shop.Example:443", True),
        ("http://shop.example", "https", "shop.example", False),
        ("https://shop.example", "http", "shop.example", False),
        ("http://shop.example", "http", "shop.example:80", True),
        ("https://shop.example", "https", "shop.example:80", False),
        ("https://shop.example", "https", "", False),
        ("https://shop.example", "https", "a%b", False),
        ("https://shop.example", "", "shop.example", True),
        ("http://shop.example", "", "shop.example", True),
        ("https://shop.example", "", "shop.example:443", True),
        ("http://shop.example:8080", "", "shop.example:8080", True),
        ("http://shop.example:8080", "", "shop.example", False),
        ("capacitor://localhost", "", "localhost", False),
        ("http://[::1]:8080", "", "[::1]:8080", True),
    ],
)
def test_the_own_scheme_counts_where_it_is_known(origin: str, scheme: str, host: str, same: bool) -> None:
    assert is_same(origin, scheme, host) is same

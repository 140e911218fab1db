"""Who the client is behind proxies: only known ones are believed."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from primacron.proxies import MAX_HOPS, Origin, _hops, find_origin

TRUSTED = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "192.168.1.1/32", "fd00::/8")))
PROXY = "10.0.0.1"


def origin(peer: str = PROXY, secure: bool = False, /, **fields: str) -> Origin:
    """Return where a request comes from; the header fields are given with underscores."""
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    return find_origin(peer, secure, headers, TRUSTED)


# Who is not believed

SPOOFED = {
    "forwarded": "for=6.6.6.6;proto=https;host=evil.example",
    "x_forwarded_for": "6.6.6.6",
    "x_forwarded_proto": "https",
    "x_forwarded_host": "evil.example",
}


@pytest.mark.parametrize(
    "peer",
    [
        "11.0.0.1",
        "192.168.1.2",
        "127.0.0.1",
        "::1",
        "2001:db8::1",
        "::ffff:11.0.0.1",
        "local",
        "",
        "unknown",
        "10.0.0.1x",
        "10.0.0",
    ],
)
def test_nobody_else_is_believed(peer: str) -> None:
    assert origin(peer, host="shop.example", **SPOOFED) == Origin(peer, False, "shop.example")


def test_by_default_nobody_is_believed() -> None:
    headers = {name.replace("_", "-"): value for name, value in SPOOFED.items()} | {"host": "shop.example"}
    for peer in ("127.0.0.1", "::1", PROXY, "local"):
        assert find_origin(peer, True, headers, ()) == Origin(peer, True, "shop.example")


def test_a_known_proxy_that_says_nothing_is_the_client() -> None:
    assert origin(host="shop.example") == Origin(PROXY, False, "shop.example")
    assert origin(PROXY, True) == Origin(PROXY, True, "")
    # Where it does not say for whom, it does not say the rest either.
    assert origin(x_forwarded_proto="https", x_forwarded_host="a.example") == Origin(PROXY, False, "")


@pytest.mark.parametrize(
    "peer", ["10.0.0.1", "10.255.255.255", "192.168.1.1", "fd00::1", "fd12:3456::1", "::ffff:10.0.0.1"]
)
def test_networks_of_both_families_are_known(peer: str) -> None:
    assert origin(peer, x_forwarded_for="1.1.1.1").peer == "1.1.1.1"


# X-Forwarded-*


@pytest.mark.parametrize(
    ("field", "peer"),
    [
        ("1.1.1.1", "1.1.1.1"),
        (" 1.1.1.1 ", "1.1.1.1"),
        ("1.1.1.1:4711", "1.1.1.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("6.6.6.6, 1.1.1.1", "1.1.1.1"),
        ("6.6.6.6,1.1.1.1", "1.1.1.1"),
        ("10.6.6.6, 1.1.1.1", "1.1.1.1"),  # the client claims to be a proxy
        ("6.6.6.6, 1.1.1.1, 10.0.0.2", "1.1.1.1"),
        ("6.6.6.6, 1.1.1.1, 10.0.0.3, 192.168.1.1, fd00::2", "1.1.1.1"),
        ("1.1.1.1, 192.168.1.2, 10.0.0.2", "192.168.1.2"),
        ("10.0.0.9, 10.0.0.2", "10.0.0.9"),  # all are known: the first one
        ("garbage, 1.1.1.1", "1.1.1.1"),
        ("1.1.1.1, garbage", "garbage"),
        ("unknown", "unknown"),
        (", 1.1.1.1", "1.1.1.1"),
    ],
)
def test_addresses_are_read_from_the_last_as_long_as_who_added_them_is_known(field: str, peer: str) -> None:
    assert origin(x_forwarded_for=field).peer == peer


@pytest.mark.parametrize("field", ["", " ", ",", "6.6.6.6,", "6.6.6.6, ", "6.6.6.6, ,"])
def test_an_empty_address_ends_the_way_at_who_wrote_it(field: str) -> None:
    assert origin(x_forwarded_for=field).peer == PROXY


@pytest.mark.parametrize(
    ("addresses", "protos", "secure"),
    [
        ("1.1.1.1", "https", True),
        ("1.1.1.1", "HTTPS", True),
        ("1.1.1.1", "wss", True),
        ("1.1.1.1", "http", False),
        ("1.1.1.1", "ws", False),
        ("1.1.1.1", "", False),
        ("1.1.1.1", "httpss", False),
        ("1.1.1.1", "https,", True),
        ("6.6.6.6, 1.1.1.1", "https", True),
        ("6.6.6.6, 1.1.1.1", "https, http", False),
        ("6.6.6.6, 1.1.1.1", "http, https", True),
        ("1.1.1.1, 10.0.0.2", "https", True),  # what the nearest proxy says holds for the hops before it
        ("1.1.1.1, 10.0.0.2", "https, http", True),
        ("1.1.1.1, 10.0.0.2", "http, https", False),
        ("1.1.1.1", "https, http", False),
    ],
)
def test_the_scheme_is_that_of_the_hop_that_counts(addresses: str, protos: str, secure: bool) -> None:
    assert origin(x_forwarded_for=addresses, x_forwarded_proto=protos).secure is secure


def test_without_a_scheme_the_proxys_own_counts() -> None:
    assert origin(PROXY, True, x_forwarded_for="1.1.1.1").secure
    assert not origin(PROXY, True, x_forwarded_for="1.1.1.1", x_forwarded_proto="http").secure


@pytest.mark.parametrize(
    ("addresses", "hosts", "host"),
    [
        ("1.1.1.1", "Shop.Example:8443", "shop.example:8443"),
        ("6.6.6.6, 1.1.1.1", "evil.example, shop.example", "shop.example"),
        ("1.1.1.1, 10.0.0.2", "shop.example, inner.example", "shop.example"),
        ("1.1.1.1, 10.0.0.2", "inner.example", "inner.example"),
        ("1.1.1.1", "", "direct.example"),
    ],
)
def test_the_host_is_that_of_the_hop_that_counts(addresses: str, hosts: str, host: str) -> None:
    assert origin(host="direct.example", x_forwarded_for=addresses, x_forwarded_host=hosts).host == host


# Forwarded


@pytest.mark.parametrize(
    ("field", "found"),
    [
        ("for=1.1.1.1", Origin("1.1.1.1", False, "")),
        ("For=1.1.1.1;Proto=HTTPS;Host=Shop.example;By=10.0.0.1", Origin("1.1.1.1", True, "shop.example")),
        ("proto=https;for=1.1.1.1", Origin("1.1.1.1", True, "")),
        ("for=1.1.1.1 ; proto=https", Origin("1.1.1.1", True, "")),
        ('for="1.1.1.1:4711"', Origin("1.1.1.1", False, "")),
        ('for="[2001:db8::1]"', Origin("2001:db8::1", False, "")),
        ('for="[2001:DB8::1]:4711";host="shop.example:8443"', Origin("2001:db8::1", False, "shop.example:8443")),
        ("for=6.6.6.6, for=1.1.1.1", Origin("1.1.1.1", False, "")),
        ("for=6.6.6.6;proto=https;host=evil.example,for=1.1.1.1", Origin("1.1.1.1", False, "")),
        ("for=1.1.1.1;proto=https, for=10.0.0.2;proto=http", Origin("1.1.1.1", True, "")),
        ("for=6.6.6.6, for=1.1.1.1, for=10.0.0.2, for=fd00::2", Origin("1.1.1.1", False, "")),
        ("for=10.6.6.6, for=1.1.1.1", Origin("1.1.1.1", False, "")),
        ("for=1.1.1.1, for=unknown", Origin("unknown", False, "")),
        ("for=1.1.1.1, for=_hidden", Origin("_hidden", False, "")),
        ('for="_hidden:80"', Origin("_hidden", False, "")),
        ("for=10.0.0.9, for=10.0.0.2", Origin("10.0.0.9", False, "")),
    ],
)
def test_the_standards_field_is_read_alike(field: str, found: Origin) -> None:
    assert origin(forwarded=field) == found


@pytest.mark.parametrize(
    "field",
    [
        "",
        ",",
        ";",
        "for",
        "for=",
        "for=;",
        'for=""',
        "proto=https",
        "for=6.6.6.6, proto=https",
        "for=6.6.6.6, by=10.0.0.1",
        "for=6.6.6.6,",
        "for=6.6.6.6, secret",
        "for=6.6.6.6, x-for=6.6.6.6",
        "for=6.6.6.6, xfor=6.6.6.6",
        "for = 6.6.6.6",
        "for=6.6.6.6 6.6.6.6",
        'for="6.6.6.6',
        'for=6.6.6.6"',
        'for=6.6.6.6, for="1.1.1.1',
    ],
)
def test_an_element_without_an_address_ends_the_way_at_who_wrote_it(field: str) -> None:
    assert origin(forwarded=field).peer == PROXY


@pytest.mark.parametrize(
    "spoof",
    [
        '"',
        "for=",
        'for="',
        'for="6.6.6.6',
        "for=6.6.6.6;",
        'host="',
        'for=10.0.0.2;x="',
        "\\",
        "for=10.0.0.2;secret=a, b",
    ],
)
def test_nothing_that_a_client_writes_swallows_what_the_proxy_adds(spoof: str) -> None:
    assert origin(forwarded=f"{spoof}, for=1.1.1.1;proto=https") == Origin("1.1.1.1", True, "")
    assert origin(x_forwarded_for=f"{spoof}, 1.1.1.1", x_forwarded_proto=f"{spoof}, https") == Origin(
        "1.1.1.1", True, ""
    )


def test_the_standards_field_counts_before_the_older_ones() -> None:
    assert origin(forwarded="for=1.1.1.1", x_forwarded_for="2.2.2.2", x_forwarded_proto="https") == Origin(
        "1.1.1.1", False, ""
    )


@given(st.text(), st.text(), st.text(), st.text())
def test_any_text_in_the_fields_is_read(forwarded: str, addresses: str, proto: str, host: str) -> None:
    fields = {"x_forwarded_for": addresses, "x_forwarded_proto": proto, "x_forwarded_host": host}
    for found in (origin(**fields), origin(forwarded=forwarded, **fields)):
        assert found.peer


addresses = st.ip_addresses().map(str)


@given(st.lists(st.text(st.characters(exclude_characters=",")) | addresses, max_size=4), addresses)
def test_the_client_behind_one_proxy_is_who_the_proxy_saw_whatever_the_client_wrote(
    spoofed: list[str], seen: str
) -> None:
    assume(origin(seen, x_forwarded_for="1.1.1.1").peer == seen)  # or it is one of ours
    assert origin(x_forwarded_for=", ".join([*spoofed, seen])).peer == seen
    quoted = f'"[{seen}]"' if ":" in seen else seen
    assert origin(forwarded=", ".join([*spoofed, f"for={quoted}"])).peer == seen


@pytest.mark.parametrize(
    ("fields", "scheme"),
    [
        ({"forwarded": "for=1.1.1.1;proto=https"}, "https"),
        ({"forwarded": "for=1.1.1.1;proto=http"}, "http"),
        ({"forwarded": "for=1.1.1.1"}, ""),
        ({"x_forwarded_for": "1.1.1.1", "x_forwarded_proto": "https"}, "https"),
        ({"x_forwarded_for": "1.1.1.1", "x_forwarded_proto": "http"}, "http"),
        ({"x_forwarded_for": "1.1.1.1"}, ""),
        ({}, ""),
    ],
)
def test_the_scheme_is_known_where_a_known_proxy_says_it(fields: dict[str, str], scheme: str) -> None:
    assert origin(**fields).scheme == scheme
    assert origin("6.6.6.6", **fields).scheme == ""
    assert origin("6.6.6.6", True, **fields).scheme == "https"


def test_of_thousands_of_addresses_the_last_ones_are_looked_at() -> None:
    spoofed = "6.6.6.6," * 8_000
    assert origin(x_forwarded_for=f"{spoofed}1.1.1.1, 10.0.0.2").peer == "1.1.1.1"
    assert origin(forwarded=f"{spoofed}for=1.1.1.1, for=10.0.0.2").peer == "1.1.1.1"
    # Where all that is looked at is ours, the first of it is who came.
    assert origin(x_forwarded_for=spoofed + ",".join(["10.0.0.2"] * MAX_HOPS)).peer == "10.0.0.2"
    assert len(_hops({"x-forwarded-for": spoofed, "x-forwarded-proto": "http," * 8_000})) == MAX_HOPS
    assert len(_hops({"forwarded": spoofed})) == MAX_HOPS

"""Addresses: which are one client's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primacron.addresses import whose_address


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("2001:DB8::1", "2001:db8::1"),
        ("2001:db8:0:0:0:0:0:1", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff"),
        ("fe80::1%eth0", "fe80::1"),
        ("fe80::1%eth0", "fe80::2%wlan1"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("::FFFF:102:304", "1.2.3.4"),
        ("Unknown", "unknown"),
    ],
)
def test_forms_of_one_address_and_addresses_of_one_network_are_one(first: str, second: str) -> None:
    assert whose_address(first, 64) == whose_address(second, 64)


@pytest.mark.parametrize(
    ("first", "second", "prefix"),
    [
        ("1.2.3.4", "1.2.3.5", 64),
        ("::ffff:1.2.3.4", "::ffff:1.2.3.5", 64),
        ("2001:db8::1", "2001:db8:0:1::1", 64),
        ("2001:db8::1", "2001:db8::2", 128),
        ("local", "unknown", 64),
        ("", "local", 64),
    ],
)
def test_others_are_not(first: str, second: str, prefix: int) -> None:
    assert whose_address(first, prefix) != whose_address(second, prefix)


def test_a_shorter_prefix_joins_more() -> None:
    assert whose_address("2001:db8::1", 48) == whose_address("2001:db8:0:7::1", 48)
    assert whose_address("1.2.3.4", 1) == "1.2.3.4"


@given(st.text(), st.integers(1, 128))
def test_any_text_stands_for_somebody_and_no_long_one_is_kept(text: str, prefix: int) -> None:
    whose = whose_address(text, prefix)
    assert whose_address(text * 3, prefix) == whose_address((text * 3)[:64], prefix)
    assert len(whose) <= 200

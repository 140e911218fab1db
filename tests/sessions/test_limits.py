"""How many connections a process takes, altogether and from one address, and how fast."""

from __future__ import annotations

from typing import Any

import pytest

from primacron.config import read_options
from primacron.errors import Overloaded, TooManyRequests
from primacron.sessions.limits import Limits


def limits(**options: Any) -> Limits:
    return Limits(read_options(options))


def test_without_limits_everybody_comes_in_and_nothing_is_kept_of_them() -> None:
    taken = limits()
    for number in range(1_000):
        taken.enter(f"peer {number}", 0.0)
    assert (taken._by_address, taken._this_second) == ({}, {})
    for number in range(1_000):
        taken.leave(f"peer {number}")
    assert taken._total == 0


def test_a_process_takes_so_many_and_one_more_for_each_that_leaves() -> None:
    taken = limits(max_connections=2)
    taken.enter("a", 0.0)
    taken.enter("b", 0.0)
    for _ in range(3):
        with pytest.raises(Overloaded, match="the limit of 2 connections is reached") as caught:
            taken.enter("c", 0.0)
        assert caught.value.http_status == 503
    taken.leave("a")
    taken.enter("c", 0.0)
    with pytest.raises(Overloaded):
        taken.enter("a", 0.0)


def test_an_address_has_so_many_and_others_have_their_own() -> None:
    taken = limits(max_per_address=2)
    for _ in range(2):
        taken.enter("a", 0.0)
        taken.enter("b", 0.0)
    for peer in ("a", "b"):
        with pytest.raises(TooManyRequests, match="2 connections of one address") as caught:
            taken.enter(peer, 0.0)
        assert caught.value.http_status == 429
    taken.leave("a")
    taken.enter("a", 0.0)
    with pytest.raises(TooManyRequests):
        taken.enter("b", 0.0)
    for peer in ("a", "a", "b", "b"):
        taken.leave(peer)
    assert taken._by_address == {}
    assert taken._total == 0


def test_handshakes_of_an_address_are_counted_per_second_refused_ones_too() -> None:
    taken = limits(handshakes_per_address=2)
    for now in (7.0, 7.999):
        taken.enter("a", now)
        taken.leave("a")
    taken.enter("b", 7.5)
    for now in (7.0, 7.5, 7.999):
        with pytest.raises(TooManyRequests, match="2 handshakes of one address per second") as caught:
            taken.enter("a", now)
        assert caught.value.http_status == 429
    taken.enter("a", 8.0)
    assert dict(taken._this_second) == {"a": 1}


def test_a_refused_handshake_takes_no_place() -> None:
    taken = limits(max_connections=2, max_per_address=1, handshakes_per_address=3)
    taken.enter("a", 0.0)
    for _ in range(5):
        with pytest.raises(TooManyRequests):
            taken.enter("a", 0.0)
    taken.enter("b", 0.0)
    with pytest.raises(Overloaded):
        taken.enter("c", 0.0)
    taken.leave("a")
    taken.leave("b")
    assert (taken._total, taken._by_address) == (0, {})
    taken.enter("c", 0.0)


def test_forms_of_an_address_are_one_and_leave_nothing_behind() -> None:
    taken = limits(max_per_address=2, handshakes_per_address=100)
    taken.enter("2001:db8::1", 0.0)
    taken.add("2001:DB8::2%eth0")
    with pytest.raises(TooManyRequests):
        taken.enter("2001:db8::3", 0.0)
    taken.enter("2001:db8:0:1::1", 0.0)
    for peer in ("2001:0DB8::9", "2001:db8::1", "2001:db8:0:1::"):
        taken.leave(peer)
    assert (taken._total, taken._by_address) == (0, {})


def test_the_prefix_is_an_option() -> None:
    single, wide = limits(max_per_address=1, ipv6_prefix=128), limits(max_per_address=1, ipv6_prefix=48)
    for peer in ("2001:db8::1", "2001:db8::2"):
        single.enter(peer, 0.0)
    wide.enter("2001:db8::1", 0.0)
    with pytest.raises(TooManyRequests):
        wide.enter("2001:db8:0:7::1", 0.0)
    for number in range(3):
        with pytest.raises(TooManyRequests):
            wide.enter(f"2001:db8:0:{number}::1", 0.0)


def test_handshakes_of_one_client_count_together_whatever_form_its_address_has() -> None:
    taken = limits(handshakes_per_address=1)
    for first, second in (("2001:db8::1", "2001:DB8::2%eth0"), ("1.2.3.4", "::ffff:1.2.3.4")):
        taken.enter(first, 7.0)
        with pytest.raises(TooManyRequests):
            taken.enter(second, 7.9)
    taken.enter("2001:db8:0:1::1", 7.9)

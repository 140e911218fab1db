"""Names: what may be one, and sids that only their node issues."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primacron.ids import (
    MAX_ID,
    Keyring,
    SidIssuer,
    is_usable_id,
    is_well_formed_sid,
    new_node_id,
    new_session_id,
)
from tests.support.naming import brief

ALPHABET = string.ascii_letters + string.digits + "_-"
issuer = SidIssuer(Keyring(b"key of this node"))


@pytest.mark.parametrize(
    "text", ["a", " ", "a" * MAX_ID, "😀" * MAX_ID, "a::b", "*", "../", "__proto__", "\u2028"], ids=brief
)
def test_text_without_controls_names_an_account_or_a_session(text: str) -> None:
    assert is_usable_id(text)


@pytest.mark.parametrize("control", [*range(0x20), *range(0x7F, 0xA0), 0xD800, 0xDBFF, 0xDC00, 0xDFFF, 0xFFFD])
def test_controls_surrogates_and_replaced_bytes_name_nothing(control: int) -> None:
    assert not is_usable_id(chr(control))
    assert not is_usable_id(f"ann{chr(control)}")
    assert not is_usable_id(f"{chr(control)}ann")


@pytest.mark.parametrize("text", ["", "a" * (MAX_ID + 1), "a" * 1_000_000], ids=brief)
def test_names_have_1_to_128_characters(text: str) -> None:
    assert not is_usable_id(text)


def test_new_names_are_random_usable_and_of_one_length() -> None:
    for make, length in ((new_session_id, 24), (new_node_id, 16)):
        names = {make() for _ in range(1_000)}
        assert len(names) == 1_000
        for name in names:
            assert re.fullmatch(rf"[{ALPHABET}]{{{length}}}", name)
            assert is_usable_id(name)


def test_sids_are_well_formed_different_and_known_again() -> None:
    sids = {issuer.issue() for _ in range(1_000)}
    assert len(sids) == 1_000
    for sid in sids:
        assert is_well_formed_sid(sid)
        assert issuer.is_ours(sid)
    assert len({sid[:8] for sid in sids}) == 1, "the hint of the node"
    assert len({sid[8:24] for sid in sids}) == 1_000, "the random part"


def test_sids_of_another_node_are_well_formed_and_not_ours() -> None:
    for other in (SidIssuer(Keyring(b"key of this node")), SidIssuer(Keyring(b"another key"))):
        sid = other.issue()
        assert is_well_formed_sid(sid)
        assert not issuer.is_ours(sid)


def test_the_checksum_depends_on_the_key() -> None:
    sid = SidIssuer(Keyring(b"another key")).issue()
    # With the hint of this node, as somebody who has seen one of its sids could write it.
    forged = issuer.issue()[:8] + sid[8:]
    assert not issuer.is_ours(forged)


@given(st.integers(0, 29), st.sampled_from(ALPHABET))
def test_a_sid_with_one_character_exchanged_is_forged(place: int, character: str) -> None:
    sid = issuer.issue()
    forged = sid[:place] + character + sid[place + 1 :]
    assert issuer.is_ours(forged) is (forged == sid)


@given(
    st.text() | st.text(ALPHABET, min_size=28, max_size=32) | st.text(ALPHABET + "é٤=+/\n", min_size=30, max_size=30)
)
def test_any_other_text_is_not_ours_and_raises_nothing(text: str) -> None:
    assert not issuer.is_ours(text)
    assert is_well_formed_sid(text) is (len(text) == 30 and set(text) <= set(ALPHABET))


@pytest.mark.parametrize("wrap", ["{}\n", "\n{}", " {}", "{}=", "{}{}", "{}\x00"])
def test_a_sid_with_anything_around_it_is_not_ours(wrap: str) -> None:
    sid = issuer.issue()
    assert not issuer.is_ours(wrap.format(sid, sid))


@pytest.mark.parametrize("text", ["", "__proto__", "s" * 10_240, "\ud800" * 30, "٤" * 30], ids=brief)
def test_what_attackers_send_for_a_sid_is_not_well_formed(text: str) -> None:
    assert not is_well_formed_sid(text)
    assert not issuer.is_ours(text)

"""The reasons of a close."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primacron.protocol.close_reasons import (
    CLIENT_CLOSE,
    FORCED_CLOSE,
    REASONS,
    REPLACED,
    SLOW,
    CloseReason,
    forced,
    known,
)

#: RFC 6455, section 7.4: what an endpoint may put into a close frame.
MAY_BE_SENT = {1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)}


def test_each_reason_has_a_text_of_its_own_a_meaning_and_a_code_that_may_be_sent() -> None:
    assert len({reason.text for reason in REASONS}) == len(REASONS)
    for reason in REASONS:
        assert reason.meaning
        assert reason.code in MAY_BE_SENT
        assert reason.short == str(reason) == reason.text


def test_a_code_of_our_own_tells_a_client_whether_to_come_back() -> None:
    ours = [reason for reason in REASONS if reason.code >= 4000]
    assert ours == [REPLACED]
    for reason in ours:
        assert reason.reconnect == (reason.code < 4500)


@pytest.mark.parametrize("reason", REASONS)
def test_a_reason_that_another_node_names_is_the_same_one(reason: CloseReason) -> None:
    assert known(reason.text, reason.code) is reason


def test_what_another_node_s_application_said_stays_final() -> None:
    assert known("sold out", 1000) == forced("sold out")
    # A text of the application that is also one of ours means what the application meant.
    assert known(SLOW.text, 1000) == forced(SLOW.text)
    assert known(CLIENT_CLOSE.text, 1011).reconnect


def test_what_the_application_or_another_connection_ended_is_final() -> None:
    assert {reason.text for reason in REASONS if not reason.reconnect} == {"forced close", "replaced"}


def test_the_application_closes_in_its_own_words() -> None:
    assert forced("forced close") is FORCED_CLOSE
    assert forced("sold out") == CloseReason("sold out", 1000, reconnect=False)
    assert forced("") == CloseReason("", 1000, reconnect=False)


@given(st.text())
def test_words_of_any_kind_and_length_fit_into_a_close_frame(text: str) -> None:
    short = forced(text).short
    wire = short.encode()  # no surrogates are left
    assert len(wire) <= 123
    if len(text.encode("utf-8", "replace")) <= 123:
        assert short == text.encode("utf-8", "replace").decode()


@pytest.mark.parametrize("text", ["a" * 200, "é" * 200, "€" * 200, "😀" * 200])
def test_long_words_are_cut_between_characters(text: str) -> None:
    short = forced(text).short
    assert text.startswith(short)
    assert 120 <= len(short.encode()) <= 123

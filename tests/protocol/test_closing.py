"""The reasons of a close."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primacron.protocol.closing import FORCED_CLOSE, REASONS, CloseReason, forced

#: RFC 6455, section 7.4: what an endpoint may put into a close frame.
MAY_BE_SENT = {1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)}


def test_each_reason_has_a_text_of_its_own_a_meaning_and_a_code_that_may_be_sent() -> None:
    assert len({reason.text for reason in REASONS}) == len(REASONS)
    for reason in REASONS:
        assert reason.meaning
        assert reason.code in MAY_BE_SENT
        assert reason.short == str(reason) == reason.text


def test_what_the_application_or_another_connection_ended_is_final() -> None:
    assert {reason.text for reason in REASONS if reason.is_final} == {"forced close", "replaced"}


def test_the_application_closes_in_its_own_words() -> None:
    assert forced("forced close") is FORCED_CLOSE
    assert forced("sold out") == CloseReason("sold out", 1000, is_final=True)
    assert forced("") == CloseReason("", 1000, is_final=True)


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

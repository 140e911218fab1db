"""What patterns of channel names match, which are refused, and which cannot be told apart."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primacron.channels.patterns import Pattern
from primacron.errors import RegistrationError
from tests.channels import reference

LITERALS = st.text("ab-:", max_size=3)


@st.composite
def patterns(draw: st.DrawFn) -> str:
    """Draw a pattern of few different characters, so that two of them often have to do with each other."""
    first, last = draw(LITERALS), draw(LITERALS)
    inner = draw(st.lists(st.text("ab-:", min_size=1, max_size=3), max_size=2))
    if not draw(st.booleans()):
        return first or "a"
    literals = [first, *inner, last]
    return "".join(f"{literal}{{f{number}}}" for number, literal in enumerate(literals[:-1])) + literals[-1]


def match(pattern: str, name: str) -> tuple[str, ...] | None:
    """Return what the fields of a pattern are in a name, if it matches at all."""
    parsed = Pattern(pattern, 255)
    return parsed.match(name) if name.startswith(parsed.head) else None


@pytest.mark.parametrize(
    ("pattern", "head", "fields"),
    [
        ("news", "news", ()),
        ("lot:{number}", "lot:", ("number",)),
        ("{name}", "", ("name",)),
        ("{a}:{b}", "", ("a", "b")),
        ("shop:{a}-{b}:end", "shop:", ("a", "b")),
        (".*[a]{b}\\", ".*[a]", ("b",)),
        ("ä:{größe}", "ä:", ("größe",)),
    ],
)
def test_a_pattern_begins_with_its_head_and_names_its_fields(pattern: str, head: str, fields: tuple[str, ...]) -> None:
    parsed = Pattern(pattern, 255)
    assert (parsed.text, parsed.head, parsed.fields) == (pattern, head, fields)


@pytest.mark.parametrize(
    ("pattern", "name", "texts"),
    [
        ("news", "news", ()),
        ("news", "news:", None),
        ("news", "new", None),
        ("lot:{n}", "lot:7", ("7",)),
        ("lot:{n}", "lot:", None),
        ("lot:{n}", "lot:7:8", None),
        ("lot:{n}", "lot:7\n", ("7\n",)),
        ("lot:{n}", "Lot:7", None),
        ("lot:{n}", "lot:{n}", ("{n}",)),
        ("{a}:{b}", "x:y", ("x", "y")),
        ("{a}:{b}", ":y", None),
        ("{a}:{b}", "x:", None),
        ("{a}-{b}", "x-y-z", ("x", "y-z")),
        ("{a}-{b}", "--z", ("-", "z")),
        ("{a}-{b}", "--", None),
        ("{a}-{b}", "---", ("-", "-")),
        ("{a}-{b}-{c}", "1-2-3-4", ("1", "2", "3-4")),
        ("{a}ab:{b}", "abab:c", ("ab", "c")),
        ("{a}.end", "x.end.end", ("x.end",)),
        ("{a}.end", "x_end", None),
        ("a.b:{c}", "axb:c", None),
        ("$^:{c}|", "$^:c|", ("c",)),
    ],
)
def test_a_field_takes_what_is_there_up_to_the_first_place_where_the_rest_can_begin(
    pattern: str, name: str, texts: tuple[str, ...] | None
) -> None:
    assert match(pattern, name) == reference.read(pattern, name) == texts


@given(patterns(), st.text("ab-:", max_size=12))
def test_matching_agrees_with_trying_every_way_to_divide_a_name(pattern: str, name: str) -> None:
    assert match(pattern, name) == reference.read(pattern, name)


@given(patterns(), st.lists(st.text("ab-", min_size=1, max_size=3), min_size=4, max_size=4))
def test_a_pattern_matches_what_it_is_filled_in_to(pattern: str, texts: list[str]) -> None:
    literals, fields = reference.take_apart(pattern)
    name = "".join(literal + text for literal, text in zip(literals, [*texts[: len(fields)], ""], strict=True))
    found = match(pattern, name)
    assert found is not None
    assert found == reference.read(pattern, name)


@pytest.mark.parametrize("separator", ["-", "a", "--", "a-a"])
def test_a_name_that_almost_matches_many_fields_is_refused_as_soon_as_it_has_been_read(separator: str) -> None:
    pattern = separator.join(f"{{f{number}}}" for number in range(20)) + "!"
    assert match(pattern, (separator * 255)[:255]) is None
    assert match(pattern, "a" * 255) is None
    assert match(pattern, "-" * 254 + "?") is None


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("", "a channel's name is at least one character, and no control characters"),
        ("a\x00b", "a channel's name is at least one character, and no control characters"),
        ("a\nb", "a channel's name is at least one character, and no control characters"),
        ("a\x7f", "a channel's name is at least one character, and no control characters"),
        ("a\x85", "a channel's name is at least one character, and no control characters"),
        ("a\ud800", "a channel's name is at least one character, and no control characters"),
        ("a" * 21, "bytes of the name of a channel: the limit is 20"),
        ("ä" * 11, "bytes of the name of a channel: the limit is 20"),
        ("lot:{", "its braces do not match"),
        ("lot:}", "its braces do not match"),
        ("lot:{n", "its braces do not match"),
        ("lot:{n}}", "its braces do not match"),
        ("lot:{{n}}", "its braces do not match"),
        ("lot:{a{b}}", "its braces do not match"),
        ("lot:}n{", "its braces do not match"),
        ("lot:{}", "{} is not the name of a parameter"),
        ("lot:{0}", "{0} is not the name of a parameter"),
        ("lot:{n:d}", "{n:d} is not the name of a parameter"),
        ("lot:{n!r}", "{n!r} is not the name of a parameter"),
        ("lot:{ n }", "{ n } is not the name of a parameter"),
        ("lot:{a.b}", "{a.b} is not the name of a parameter"),
        ("{n}:{n}", "{n} is in it twice"),
        ("{a}:{n}:{b}:{n}", "{n} is in it twice"),
        ("lot:{a}{b}", "two fields need something between them"),
        ("{a}{b}:{c}", "two fields need something between them"),
    ],
)
def test_a_malformed_pattern_is_refused_with_what_is_wrong(pattern: str, words: str) -> None:
    with pytest.raises(RegistrationError) as caught:
        Pattern(pattern, 20)
    assert str(caught.value) == f"channels {pattern!r}: {words}"


@pytest.mark.parametrize("pattern", [None, 5, b"lot:{n}", ["lot"]])
def test_a_pattern_is_a_text(pattern: Any) -> None:
    with pytest.raises(TypeError, match="pattern: expected a str"):
        Pattern(pattern, 255)


@given(st.text("ab:-{}", max_size=20) | st.text(max_size=40))
def test_any_text_is_a_pattern_or_is_refused(text: str) -> None:
    with contextlib.suppress(RegistrationError):
        parsed = Pattern(text, 255)
        literals, fields = reference.take_apart(text)
        assert (parsed.head, parsed.fields) == (literals[0], tuple(fields))


# Which can be told apart


@pytest.mark.parametrize(
    ("one", "two", "overlap"),
    [
        ("news", "news", True),
        ("news", "newer", False),
        ("lot:{a}", "lot:{b}", True),
        ("lot:{a}", "lot:{a}:bids", False),
        ("lot:{a}", "lot:{a}-bids", True),
        ("lot:{a}:x", "lot:{a}:y", False),
        ("lot:{a}:{b}", "lot:{a}:y", True),
        ("lot:{a}x", "lot:{a}y", False),
        ("lot:{a}xy", "lot:{a}y", True),
        ("lot:{a}-{b}", "lot:{a}-", True),
        ("lot:{a}-{b}-", "lot:{a}-", True),
        ("lot:", "lot:{a}", False),
        ("lot:7", "lot:{a}", True),
    ],
)
def test_two_patterns_overlap_if_some_name_matches_both(one: str, two: str, overlap: bool) -> None:
    assert Pattern(one, 255).overlaps(Pattern(two, 255)) is overlap
    assert Pattern(two, 255).overlaps(Pattern(one, 255)) is overlap


@given(patterns(), patterns(), st.text("ab-:", max_size=10))
def test_patterns_that_do_not_overlap_share_no_name(one: str, two: str, name: str) -> None:
    if not Pattern(one, 255).overlaps(Pattern(two, 255)):
        assert match(one, name) is None or match(two, name) is None


SHORT = st.text("a-:", max_size=1)


@given(st.tuples(SHORT, SHORT, SHORT), st.tuples(SHORT, SHORT, SHORT))
def test_patterns_that_overlap_share_a_name(one: tuple[str, ...], two: tuple[str, ...]) -> None:
    first, second = (f"{head}{{x}}{inner or ':'}{{y}}{last}" for head, inner, last in (one, two))
    shared = any(match(first, name) and match(second, name) for name in reference.names("a-:", 6))
    assert Pattern(first, 255).overlaps(Pattern(second, 255)) is shared

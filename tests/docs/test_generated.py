"""The generated pages and drawings are what the code says now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from docs.generate import __main__ as generate
from docs.generate.errors import tree
from primacron.config import FIELDS
from primacron.errors import ERROR_EVENTS
from primacron.protocol.close_reasons import REASONS
from primacron.protocol.engine import BEATS, MOVES, Heart, Phase
from primacron.sessions.lifecycle import CHANGES, State
from primacron.standalone import connection_states as http
from tests.docs.blocks import ROOT

FILES = generate.files()
MADE = "<!-- Made by"


def content(name: str) -> str:
    """Return a generated file."""
    return FILES[ROOT / "docs" / name]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_generated_file_is_current(file: Path) -> None:
    assert file.read_text() == FILES[file], "run `make docs` and commit what it writes"


def test_no_page_says_that_it_was_generated_when_it_was_not() -> None:
    marked = {page for page in (ROOT / "docs").rglob("*.md") if MADE in page.read_text()}
    assert marked == {file for file in FILES if file.suffix == ".md"}


def test_generating_twice_makes_the_same() -> None:
    assert generate.files() == FILES


def test_only_what_differs_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    docs = tmp_path / "docs"
    monkeypatch.setattr(generate, "DOCS", docs)
    for folder in ("reference", "topics"):
        (docs / folder).mkdir(parents=True)
    generate.main()
    written = capsys.readouterr().out.splitlines()
    assert written == [f"written: {file.relative_to(ROOT)}" for file in FILES]
    (docs / "reference" / "options.md").write_text("old")
    generate.main()
    assert capsys.readouterr().out == "written: docs/reference/options.md\n"
    assert (docs / "reference" / "options.md").read_text() == content("reference/options.md")
    generate.main()
    assert capsys.readouterr().out == ""


def rows(name: str) -> Mapping[str, str]:
    """Return the rows of a page's tables by what stands in their first cell."""
    lines = [line for line in content(name).splitlines() if line.startswith("| ")]
    return {line.split(" | ")[0].strip("| *`"): line for line in lines}


def test_the_reference_has_every_option_error_event_and_reason() -> None:
    assert set(FIELDS) <= rows("reference/options.md").keys()
    errors = rows("reference/errors.md").keys()
    assert set(ERROR_EVENTS) <= errors
    assert {error.__name__ for error in tree()} <= errors
    assert {reason.text for reason in REASONS} <= rows("reference/close-reasons.md").keys()


def texts(name: str) -> list[str]:
    """Return the texts of a drawing."""
    return ["".join(each.itertext()) for each in ET.fromstring(content(name)).iter() if each.tag.endswith("text")]


@pytest.mark.parametrize("file", [file for file in FILES if file.suffix == ".svg"], ids=lambda file: file.name)
def test_a_drawing_is_well_formed_and_its_page_shows_it(file: Path) -> None:
    assert ET.fromstring(FILES[file]).tag.endswith("svg")
    assert any(f"]({file.name})" in FILES[page] for page in FILES if page.parent == file.parent)


def test_the_drawings_have_every_state_and_every_move() -> None:
    phases, hearts = texts("topics/states-phase.svg"), texts("topics/states-heart.svg")
    lives = texts("topics/states-session.svg")
    assert {state.name for state in State} <= set(lives)
    connections, requests = texts("topics/states-http.svg"), texts("topics/states-request.svg")
    assert {stage.name for stage in http.Stage} <= set(connections)
    assert {progress.name for progress in http.Progress} <= set(requests)
    assert len(connections) == len(http.Stage) + len(http.CHANGES)
    assert len(requests) == len(http.Progress) + len(http.STEPS)
    assert len(lives) == len(State) + len(CHANGES)
    assert {phase.name for phase in Phase} <= set(phases)
    assert {heart.name for heart in Heart} <= set(hearts)
    assert len(phases) == len(Phase) + len(MOVES)
    assert len(hearts) == len(Heart) + len(BEATS)

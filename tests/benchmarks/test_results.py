"""What was measured is kept, summed up, and shown as a page and a chart."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest

from benchmarks.cases import Case, Reading, Row
from benchmarks.chart import TEXT, WIDTH, render_chart
from benchmarks.contestants import FLOOR_IN_C, OURS
from benchmarks.page import render_case, render_page
from benchmarks.record import Circumstances, Record, Records

AT = Circumstances("2030-01-02", "A processor, 2 cores", "abcdef", 3, {"Python": "3.99"})
ROWS = [Row("small", "60 bytes", "µs/message"), Row("rate", "handshakes", "per second", 0, more_is_better=True)]
NAMES = {"floor": "floor, in C", "primacron": "Primacron", "slow & old": "slow & old"}
SVG = "{http://www.w3.org/2000/svg}"


def recorded(**figures: list[float]) -> Record:
    """Return a record with the figures of the first row, by contestant."""
    readings = {name: {"small": [Reading(value) for value in values]} for name, values in figures.items()}
    return Record("Echo", "What it costs.", AT, ROWS, NAMES, readings)


def test_a_cell_has_the_median_the_least_and_the_most_and_the_multiple_of_the_floor() -> None:
    page = render_case("echo", recorded(floor=[4.0, 2.0, 3.0], primacron=[6.04, 9.0, 5.5]))
    assert "| floor, in C | **3.0** (2.0 to 4.0) | - |" in page
    assert "| **Primacron** | **6.0** (5.5 to 9.0) 2.01x | - |" in page
    assert "3 rounds on 2030-01-02, commit abcdef" in page


def test_a_run_that_is_added_has_a_floor_of_its_own() -> None:
    case = Case("echo", "Echo", "", (FLOOR_IN_C, OURS), tuple(ROWS), lambda _bench, _contestant: iter(()))
    record = recorded(floor=[2.0], primacron=[4.0]).again(case, msgspec.structs.replace(AT, date="2030-01-02 09:30"))
    record.add("floor", "small", Reading(1.0))
    record.add("primacron", "small", Reading(3.0))
    page = render_case("echo", record)
    assert "| **Primacron** | **3.5** (3.0 to 4.0) 2.00x to 3.00x | - |" in page
    assert "3 rounds on 2030-01-02, commit abcdef, and 3 rounds on 2030-01-02 09:30, commit abcdef" in page


def test_one_reading_has_no_spread() -> None:
    assert "| **Primacron** | **6.0** | - |" in render_case("echo", recorded(primacron=[6]))


def test_what_a_contestant_cannot_do_is_a_dash_and_what_failed_says_why() -> None:
    record = recorded(floor=[1])
    record.fail("primacron", "eioload: a message\ntoo many")
    record.fail("primacron", "eioload: a message\ntoo many")
    page = render_case("echo", record)
    assert "| **Primacron** | failed | failed |" in page
    assert "| slow & old | - | - |" in page
    assert page.count("Primacron failed: eioload: a message too many") == 1


@pytest.mark.parametrize(
    ("server", "client", "others", "marks"),
    [
        (0.99, 0.5, 0.0, ""),
        (0.5, 0.99, 0.0, " †"),
        (0.5, 0.6, 0.0, ""),
        (0.99, 0.95, 0.0, ""),
        (0.99, 0.5, 0.3, " ‡"),
        (0.5, 0.99, 0.3, " †‡"),
    ],
)
def test_a_figure_says_if_the_client_was_the_bottleneck_or_others_used_the_machine(
    server: float, client: float, others: float, marks: str
) -> None:
    record = recorded()
    record.readings["floor"] = {"small": [Reading(5, server, client, others)]}
    assert f"| floor, in C | **5.0**{marks} | - |" in render_case("echo", record)


def test_a_figure_without_a_floor_has_no_multiple() -> None:
    record = recorded(floor=[2], primacron=[4])
    record.rows = [Row("small", "memory", "bytes", 0, against_floor=False)]
    assert "| **Primacron** | **4** |" in render_case("idle", record)


def test_results_survive_their_file(tmp_path: Path) -> None:
    file = tmp_path / "new" / "results.json"
    assert Records.read(file).cases == {}
    records = Records({"echo": recorded(floor=[1.25])})
    records.cases["echo"].fail("primacron", "why")
    records.write(file)
    assert Records.read(file) == records


def test_a_case_that_is_measured_again_takes_the_place_of_the_old_one_and_leaves_the_others() -> None:
    records = Records({"echo": recorded(floor=[1]), "idle": recorded(floor=[2]), "given up": recorded()})
    records.merge("echo", recorded(floor=[3]), ["latency", "idle", "echo"])
    assert list(records.cases) == ["idle", "echo"]
    page = render_page(records)
    assert "**3.0**" in page
    assert "**2.0**" in page
    assert "**1.0**" not in page
    assert page.count("A processor, 2 cores. Python 3.99.") == 1


def drawn(*names: str) -> ET.Element:
    """Return the chart of records that have rows enough for every panel."""
    record = recorded(floor=[300], primacron=[1000], **{"slow & old": [0.0]})
    record.rows = [ROWS[0], ROWS[0], ROWS[0]]
    return ET.fromstring(render_chart(Records(dict.fromkeys(names, record))))


def test_the_chart_shows_every_contestant_within_its_bounds() -> None:
    chart = drawn("echo", "fanout", "idle")
    height = float(chart.attrib["height"])
    bars = chart.findall(f"{SVG}rect")
    texts = chart.findall(f"{SVG}text")
    assert len(bars) == 4 * 3
    assert [text.text for text in texts].count("slow & old") == 4
    assert [text.text for text in texts].count("1,000.0") == 4
    for each in bars + texts:
        assert 0 <= float(each.attrib["x"]) + float(each.attrib.get("width", 0)) <= WIDTH
        assert 0 <= float(each.attrib["y"]) <= height
    lengths = [float(bar.attrib["width"]) for bar in bars[:3]]
    assert lengths[0] == pytest.approx(lengths[1] * 0.3, abs=0.1)
    assert lengths[2] == 1  # what is nearly nothing can still be seen


def test_the_chart_has_words_for_who_cannot_see_it() -> None:
    title = drawn("echo").findtext(f"{SVG}title")
    assert title == "Echo of 60 bytes: server CPU, µs a message: floor, in C 300.0, Primacron 1,000.0, slow & old 0.0."


def test_a_chart_of_nothing_is_a_chart() -> None:
    assert ET.fromstring(render_chart(Records())).findall(f"{SVG}rect") == []


def test_the_chart_shows_one_form_of_ours() -> None:
    record = recorded(floor=[3])
    record.contestants = {"primacron": "Primacron", "primacron-raw": "Primacron, bare texts"}
    record.readings = {name: {"small": [Reading(1)]} for name in record.contestants}
    chart = render_chart(Records({"echo": record}))
    assert ">Primacron<" in chart
    assert "bare" not in chart


@pytest.mark.parametrize("background", ["#ffffff", "#0d1117"])
def test_the_text_of_the_chart_stands_out_from_light_and_from_dark_pages(background: str) -> None:
    lighter, darker = sorted((luminance(TEXT), luminance(background)), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) > 4  # contrast as WCAG 2 counts it


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour, as WCAG 2 defines it."""
    parts = [int(part, 16) / 255 for part in re.findall("[0-9a-f]{2}", colour)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue

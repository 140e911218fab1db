"""results.svg: the most important figures as a bar chart, readable on light and dark pages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

from benchmarks.page import render_value
from benchmarks.record import Record, Records

WIDTH: Final = 880
MARGIN: Final = 16
GAP: Final = 40
PANEL_WIDTH: Final = (WIDTH - 2 * MARGIN - GAP) / 2
#: Within a panel: the height of the title and of a bar, the pitch of the bars, the widths for names and for figures.
HEAD: Final = 44
BAR: Final = 15
STEP: Final = 21
NAMES: Final = 150
FIGURES: Final = 58
FONT: Final = "font-family='system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif'"

#: Perceptually midway between white and black: legible on both.
TEXT: Final = "#787c84"
OURS: Final = "#2f81f7"
FLOOR: Final = "#2da44e"
OTHERS: Final = "#9198a1"

#: Case, index of its row, title of the panel.
PANELS: Final = (
    ("echo", 0, "Echo of {title}: server CPU, µs a message"),
    ("fanout", 0, "Fan-out {title}: server CPU, µs a delivery"),
    ("idle", 1, "Memory of {title}, bytes each"),
    ("idle", 2, "Websocket handshakes per second"),
)
#: One form of the same server is enough here.
LEFT_OUT: Final = ("primacron-raw",)


@dataclass(frozen=True, slots=True)
class Bar:
    """One contestant's figure."""

    name: str
    value: float
    text: str
    colour: str
    is_ours: bool


@dataclass(frozen=True, slots=True)
class Panel:
    """One figure for all contestants."""

    title: str
    note: str
    bars: tuple[Bar, ...]

    @property
    def height(self) -> float:
        """Its height in the drawing."""
        return HEAD + STEP * len(self.bars)

    @property
    def words(self) -> str:
        """Its content as text, for readers who cannot see it."""
        return f"{self.title}: {', '.join(f'{bar.name} {bar.text}' for bar in self.bars)}."


def render_chart(records: Records) -> str:
    """Return the chart as SVG: panels in rows of two."""
    panels = [_panel(records.cases[name], place, title) for name, place, title in PANELS if name in records.cases]
    drawn: list[str] = []
    top = float(MARGIN)
    for first in range(0, len(panels), 2):
        pair = panels[first : first + 2]
        for column, panel in enumerate(pair):
            drawn += _draw(panel, MARGIN + column * (PANEL_WIDTH + GAP), top)
        top += max(panel.height for panel in pair) + MARGIN
    size = f"viewBox='0 0 {WIDTH} {top:.0f}' width='{WIDTH}' height='{top:.0f}'"
    words = escape(" ".join(panel.words for panel in panels))
    head = f"<svg xmlns='http://www.w3.org/2000/svg' {size} role='img' {FONT}>"
    return "\n".join([head, f"<title>{words}</title>", *drawn, "</svg>", ""])


def _panel(record: Record, place: int, title: str) -> Panel:
    row = record.rows[place]
    bars = []
    for contestant, name in record.contestants.items():
        summary = record.summary(contestant, row)
        if summary is None or contestant in LEFT_OUT:
            continue
        is_ours = contestant == "primacron"
        colour = OURS if is_ours else FLOOR if contestant == "floor" else OTHERS
        bars.append(Bar(name, summary.median, render_value(summary.median, row), colour, is_ours))
    note = "longer is better" if row.more_is_better else "shorter is better"
    return Panel(title.format(title=row.title), note, tuple(bars))


def _draw(panel: Panel, left: float, top: float) -> Iterator[str]:
    yield _text(left, top + 14, panel.title, "font-size='14' font-weight='600'")
    yield _text(left, top + 30, panel.note, "font-size='11'")
    longest = max((bar.value for bar in panel.bars), default=0) or 1
    for place, bar in enumerate(panel.bars):
        y = top + HEAD + place * STEP
        length = max(bar.value / longest * (PANEL_WIDTH - NAMES - FIGURES), 1)
        style = "font-size='12' font-weight='600'" if bar.is_ours else "font-size='12'"
        yield _text(left + NAMES - 8, y + 12, bar.name, f"{style} text-anchor='end'")
        size = f"x='{left + NAMES:.1f}' y='{y:.1f}' width='{length:.1f}' height='{BAR}'"
        yield f"<rect {size} rx='2' fill='{bar.colour}'/>"
        yield _text(left + NAMES + length + 6, y + 12, bar.text, style)


def _text(x: float, y: float, text: str, style: str) -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' fill='{TEXT}' {style}>{escape(text)}</text>"

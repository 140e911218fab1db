"""Draws a state machine as SVG: boxes at given positions, arrows from its transition table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TypeAlias

Point: TypeAlias = tuple[float, float]

WIDTH, HEIGHT = 150.0, 44.0
_LINE = 18.0
_LOOP = 46.0
_LETTER = 8.0

_STYLE = """
  svg { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
  .paper { fill: #fffdf9; } .box { fill: #eaf1ec; stroke: #1e5b4a; } .end { fill: #f1ede4; stroke: #6b655b; }
  .name { fill: #1d1b18; font-weight: 650; } .edge { fill: none; stroke: #6b655b; stroke-width: 1.4; }
  .tip, .dot { fill: #6b655b; } .label { fill: #1d1b18; paint-order: stroke; stroke: #fffdf9; stroke-width: 9px; }
  text { text-anchor: middle; dominant-baseline: central; }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #1d2024; } .box { fill: #1f2e29; stroke: #8fceb6; } .end { fill: #26292e; stroke: #9c9890; }
    .name { fill: #ece8e0; } .edge { stroke: #9c9890; } .tip, .dot { fill: #9c9890; }
    .label { fill: #ece8e0; stroke: #1d2024; }
  }
"""


@dataclass(frozen=True)
class Box:
    """A state: its centre, the side on which a self-loop hangs (top, bottom, right), and whether it is final."""

    x: float
    y: float
    loop: str = "top"
    is_end: bool = False


@dataclass(frozen=True)
class Arrow:
    """A transition, or several between the same two states: one line of label for each."""

    source: str
    target: str
    labels: tuple[str, ...]
    #: How far the arrow's midpoint is displaced, to the left of its direction.
    bend: float = 0.0
    #: Where the label is on the arrow, from 0 to 1.
    at: float = 0.5


def draw(
    title: str, size: tuple[int, int], boxes: Mapping[str, Box], arrows: Sequence[Arrow], starts: Mapping[str, Point]
) -> str:
    """Return the drawing; ``starts`` are the points from which the initial arrow of a state comes."""
    drawn = [_arrow(boxes[arrow.source], boxes[arrow.target], arrow) for arrow in arrows]
    entries = [_entry(point, boxes[name]) for name, point in starts.items()]
    lines = [line for line, _ in drawn] + entries + [_box(name, box) for name, box in boxes.items()]
    lines += [text for _, text in drawn]
    head = '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" role="img">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n"
        f'<defs>{head}<path class="tip" d="M0 0l8 4-8 4z"/></marker></defs>\n'
        f'<rect class="paper" width="{size[0]}" height="{size[1]}" rx="12"/>\n' + "\n".join(lines) + "\n</svg>\n"
    )


def _box(name: str, box: Box) -> str:
    kind = "end" if box.is_end else "box"
    return (
        f'<rect class="{kind}" x="{box.x - WIDTH / 2:g}" y="{box.y - HEIGHT / 2:g}" '
        f'width="{WIDTH:g}" height="{HEIGHT:g}" rx="10"/>'
        f'<text class="name" x="{box.x:g}" y="{box.y:g}">{escape(name)}</text>'
    )


def _entry(point: Point, box: Box) -> str:
    end = _edge_of(box, point)
    return (
        f'<circle class="dot" cx="{point[0]:g}" cy="{point[1]:g}" r="5"/>'
        f'<path class="edge" marker-end="url(#tip)" d="M{point[0]:g} {point[1]:g}L{end[0]:.1f} {end[1]:.1f}"/>'
    )


def _arrow(source: Box, target: Box, arrow: Arrow) -> tuple[str, str]:
    if arrow.source == arrow.target:
        return _loop(source, arrow.labels)
    across, down = target.x - source.x, target.y - source.y
    length = math.hypot(across, down)
    middle = (
        (source.x + target.x) / 2 + down / length * arrow.bend * 2,
        (source.y + target.y) / 2 - across / length * arrow.bend * 2,
    )
    start, end = _edge_of(source, middle), _edge_of(target, middle)
    part = arrow.at
    where = tuple(
        (1 - part) ** 2 * a + 2 * part * (1 - part) * b + part**2 * c
        for a, b, c in zip(start, middle, end, strict=True)
    )
    path = f"M{start[0]:.1f} {start[1]:.1f}Q{middle[0]:.1f} {middle[1]:.1f} {end[0]:.1f} {end[1]:.1f}"
    return f'<path class="edge" marker-end="url(#tip)" d="{path}"/>', _text(where[0], where[1], arrow.labels)


def _loop(box: Box, labels: tuple[str, ...]) -> tuple[str, str]:
    if box.loop == "right":
        x, far = box.x + WIDTH / 2, box.x + WIDTH / 2 + _LOOP
        path = f"M{x:g} {box.y - 12:g}C{far:g} {box.y - 24:g} {far:g} {box.y + 24:g} {x:g} {box.y + 12:g}"
        widest = max(map(len, labels)) * _LETTER
        text = _text(far + widest / 2, box.y, labels)
        return f'<path class="edge" marker-end="url(#tip)" d="{path}"/>', text
    sign = -1 if box.loop == "top" else 1
    y = box.y + sign * HEIGHT / 2
    far = y + sign * _LOOP
    path = f"M{box.x - 22:g} {y:g}C{box.x - 34:g} {far:g} {box.x + 34:g} {far:g} {box.x + 22:g} {y:g}"
    reach = _LOOP * 0.75 + _LINE * len(labels) / 2 + 4
    return f'<path class="edge" marker-end="url(#tip)" d="{path}"/>', _text(box.x, y + sign * reach, labels)


def _text(x: float, y: float, labels: tuple[str, ...]) -> str:
    top = y - _LINE * (len(labels) - 1) / 2
    return "".join(
        f'<text class="label" x="{x:.1f}" y="{top + _LINE * number:.1f}">{escape(label)}</text>'
        for number, label in enumerate(labels)
    )


def _edge_of(box: Box, towards: Point) -> Point:
    """Return where the line from a box's centre to a point leaves the box."""
    across, down = towards[0] - box.x, towards[1] - box.y
    scale = min(
        WIDTH / 2 / abs(across) if across else math.inf,
        HEIGHT / 2 / abs(down) if down else math.inf,
    )
    return box.x + across * scale, box.y + down * scale

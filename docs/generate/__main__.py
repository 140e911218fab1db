"""
Writes the generated pages and drawings: ``python -m docs.generate``.

A test compares the files with what this makes, so they cannot fall behind the code.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from docs.generate import api, closing, errors, moves, options, states

DOCS: Final = Path(__file__).parent.parent
_NOTE: Final = "<!-- Made by `python -m docs.generate`; change the code instead. -->\n\n"


def files() -> Mapping[Path, str]:
    """Return all generated files with their content."""
    pages = {
        "reference/options.md": options.page(),
        "reference/errors.md": errors.page(),
        "reference/close-reasons.md": closing.page(),
        "reference/api.md": api.page(),
        "topics/states.md": states.page(),
        "topics/cluster-states.md": moves.page(),
    }
    drawings = {
        "topics/states-phase.svg": states.draw_phase(),
        "topics/states-heart.svg": states.draw_heart(),
        "topics/states-link.svg": moves.draw_link(),
        "topics/states-giver.svg": moves.draw_giver(),
        "topics/states-taker.svg": moves.draw_taker(),
    }
    return {DOCS / name: _NOTE + text for name, text in pages.items()} | {
        DOCS / name: text for name, text in drawings.items()
    }


def main() -> None:
    """Write what differs."""
    for file, text in files().items():
        if not file.exists() or file.read_text() != text:
            file.write_text(text)
            print(f"written: {file.relative_to(DOCS.parent)}")


if __name__ == "__main__":
    main()

"""
Writes the generated pages and drawings: ``python -m docs.generate``.

A test compares the files with its output, so that they cannot fall behind the code.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import primacron
from docs.generate import api, closing, errors, front, metrics, moves, options, states
from primacron.plain import SWITCH

DOCS: Final = Path(__file__).parent.parent
_NOTE: Final = "<!-- Made by `python -m docs.generate`; change the code instead. -->\n\n"


def files() -> Mapping[Path, str]:
    """Return all generated files with their content."""
    return {DOCS / name: text for name, text in (_read_plain() if primacron.compiled else _make()).items()}


def _read_plain() -> Mapping[str, str]:
    """Generate the files in a process without compiled modules, which have no annotations to inspect."""
    command = [sys.executable, "-m", "docs.generate", "--print"]
    plain = {**os.environ, SWITCH: "1"}
    made = subprocess.run(command, env=plain, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, check=True)  # noqa: S603
    files: Mapping[str, str] = json.loads(made.stdout)
    return files


def _make() -> Mapping[str, str]:
    pages = {
        "reference/options.md": options.page(),
        "reference/errors.md": errors.page(),
        "reference/close-reasons.md": closing.page(),
        "reference/metrics.md": metrics.page(),
        "reference/api.md": api.page(),
        "topics/states.md": states.page(),
        "topics/http-states.md": front.page(),
        "topics/cluster-states.md": moves.page(),
    }
    drawings = {
        "topics/states-session.svg": states.draw_session(),
        "topics/states-phase.svg": states.draw_phase(),
        "topics/states-heart.svg": states.draw_heart(),
        "topics/states-http.svg": front.draw_connection(),
        "topics/states-request.svg": front.draw_request(),
        "topics/states-link.svg": moves.draw_link(),
        "topics/states-source.svg": moves.draw_source(),
        "topics/states-destination.svg": moves.draw_destination(),
        "topics/states-source-probe.svg": moves.draw_source_probe(),
        "topics/states-destination-probe.svg": moves.draw_destination_probe(),
    }
    return {name: _NOTE + text for name, text in pages.items()} | drawings


def main() -> None:
    """Write the files that differ, or print all of them as JSON."""
    if "--print" in sys.argv[1:]:
        print(json.dumps(_make()))
        return
    for file, text in files().items():
        if not file.exists() or file.read_text() != text:
            file.write_text(text)
            print(f"written: {file.relative_to(DOCS.parent)}")


if __name__ == "__main__":
    main()

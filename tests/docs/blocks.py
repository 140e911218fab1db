"""The code blocks of the documentation, as a reader finds them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent.parent
PAGES: Final = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))

# A comment before a block names it, so that what the page claims of it can be tested.
_BLOCK: Final = re.compile(
    r"(?:<!-- block: (?P<name>[\w.-]+) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Block:
    """One block: where it stands, and what it says."""

    page: Path
    line: int
    language: str
    name: str | None
    text: str

    @property
    def place(self) -> str:
        """Where it stands, or its name."""
        return self.name or f"{self.page.relative_to(ROOT)}:{self.line}"


def _read(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for found in _BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("text")) + 1
        yield Block(page, line, found["language"], found["name"], found["text"])


BLOCKS: Final = [block for page in PAGES for block in _read(page)]
NAMED: Final = {block.name: block for block in BLOCKS if block.name}

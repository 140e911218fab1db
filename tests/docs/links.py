"""Links and headings of a Markdown page, as its readers' forge makes them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_FENCE: Final = re.compile(r"^( *)(```+|~~~+).*?^\1\2 *$", re.DOTALL | re.MULTILINE)
_COMMENT: Final = re.compile(r"<!--.*?-->", re.DOTALL)
_CODE: Final = re.compile(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", re.DOTALL)
_HEADING: Final = re.compile(r"^#{1,6} +(.+?)(?: +#+)?$", re.MULTILINE)
_NAMED: Final = re.compile(r"""<[^>]+\b(?:id|name)=["']([^"']+)["']""")
# After the text, which may hold an image that links, too.
_INLINE: Final = re.compile(r"""\]\(\s*<?([^()\s<>]+)>?(?:\s+["'][^)]*["'])?\s*\)""")
_REFERENCE: Final = re.compile(r"^ {0,3}\[[^\]]+\]: +(\S+)", re.MULTILINE)
_HTML: Final = re.compile(r"""<[^>]+\b(?:href|src)=["']([^"']+)["']""")
_TEXT_OF_LINK: Final = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")


def without_code(text: str) -> str:
    """Return a page without what is shown as it stands: blocks, code within lines, comments."""
    for pattern in (_FENCE, _COMMENT, _CODE):
        text = pattern.sub("", text)
    return text


def links(page: Path) -> Iterator[str]:
    """Return where the links and images of a page lead."""
    text = without_code(page.read_text())
    for pattern in (_INLINE, _REFERENCE, _HTML):
        yield from pattern.findall(text)


def anchors(page: Path) -> set[str]:
    """Return the names of a page's headings, and others that it gives."""
    text = _COMMENT.sub("", _FENCE.sub("", page.read_text()))
    found = set(_NAMED.findall(text))
    for heading in _HEADING.findall(text):
        name = slug(heading)
        number = 0
        while (unique := f"{name}-{number}" if number else name) in found:
            number += 1
        found.add(unique)
    return found


def slug(heading: str) -> str:
    """Return the name of a heading: lower case, without punctuation, with hyphens for spaces."""
    plain = _TEXT_OF_LINK.sub(r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def is_external(target: str) -> bool:
    """Tell whether a link leads out of the repository."""
    return re.match(r"[a-z][a-z0-9+.-]*:", target) is not None


def problem(page: Path, target: str) -> str | None:
    """Return what is wrong with a link within the repository."""
    name, _, anchor = target.partition("#")
    file = (page.parent / name).resolve() if name else page
    if name.startswith("/") or not file.exists():
        return f"{target}: there is no such file"
    if anchor and (file.suffix != ".md" or anchor not in anchors(file)):
        return f"{target}: there is no such heading"
    return None

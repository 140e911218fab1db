"""Every link of the pages leads somewhere, and every page can be found."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT
from tests.docs.links import anchors, is_external, links, problem, slug, without_code

DOCS = ROOT / "docs"
PAGES = sorted(
    page
    for place in ("*.md", "docs/**/*.md", "benchmarks/*.md", "benchmarks/load/*.md", "examples/**/*.md")
    for page in ROOT.glob(place)
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    broken = [wrong for target in links(page) if not is_external(target) and (wrong := problem(page, target))]
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_out_of_the_repository_are_encrypted_and_lead_to_no_machine_of_ours(page: Path) -> None:
    outside = [target for target in links(page) if is_external(target)]
    assert [target for target in outside if not target.startswith("https://")] == []
    assert [target for target in outside if target.startswith(("https://localhost", "https://127."))] == []


def test_every_page_and_every_image_can_be_found_from_the_readme() -> None:
    found, open_pages = {ROOT / "README.md"}, [ROOT / "README.md"]
    while open_pages:
        page = open_pages.pop()
        for target in links(page):
            file = (page.parent / target.partition("#")[0]).resolve()
            if not is_external(target) and file.is_file() and file not in found:
                found.add(file)
                open_pages += [file] if file.suffix == ".md" else []
    wanted = {file for ending in ("md", "svg", "png") for file in DOCS.rglob(f"*.{ending}")}
    assert wanted - found == set()


def test_the_index_lists_every_page_that_tells_how_to_do_something_by_its_title() -> None:
    index = (DOCS / "README.md").read_text()
    listed = dict(re.findall(r"^- \[([^\]]+)]\((how-to/[^)]+)\)$", index, re.MULTILINE))
    titles = {page.read_text().partition("\n")[0].removeprefix("# "): page for page in DOCS.glob("how-to/*.md")}
    assert listed == {title: f"how-to/{page.name}" for title, page in titles.items()}


# The reading of pages


@pytest.mark.parametrize(
    ("heading", "name"),
    [
        ("Plain words", "plain-words"),
        ("What the outer ASGI server decides", "what-the-outer-asgi-server-decides"),
        ("`session.call(...)` and `error::json`", "sessioncall-and-errorjson"),
        ("Not yet: Redis, channels", "not-yet-redis-channels"),
        ("A - B", "a---b"),
        ("[A link](page.md) here", "a-link-here"),
        ("max_payload's *limit*", "max_payloads-limit"),
        ("Größe", "größe"),
    ],
)
def test_the_name_of_a_heading(heading: str, name: str) -> None:
    assert slug(heading) == name


def test_links_are_found_in_all_their_forms_but_not_in_code(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        '[a](a.md) and ![an\nimage](b.png "title"), [![both](c.svg)](d.md#x)\n[e]\n\n[e]: e.md\n'
        '<img src="f.png"> `[no](no.md)` ``a ` [no](no.md)``\n<!-- [no](no.md) -->\n'
        "```md\n[no](no.md)\n```\n[g](<g.md>)\n"
    )
    assert sorted(links(page)) == ["a.md", "b.png", "c.svg", "d.md#x", "e.md", "f.png", "g.md"]
    assert "no" not in without_code(page.read_text())


def test_repeated_headings_are_numbered_and_blocks_have_none(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text('# Top\n## Use\n```sh\n# not one\n```\n## Use\n### Use ###\n<a id="extra"></a>\n')
    assert anchors(page) == {"top", "use", "use-1", "use-2", "extra"}


def test_what_is_wrong_with_a_link_is_told(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Top\n")
    (tmp_path / "image.png").write_bytes(b"")
    assert problem(page, "page.md#top") is None
    assert problem(page, "#top") is None
    assert problem(page, "image.png") is None
    assert problem(page, "#bottom") == "#bottom: there is no such heading"
    assert problem(page, "image.png#top") == "image.png#top: there is no such heading"
    assert problem(page, "other.md") == "other.md: there is no such file"
    assert problem(page, str(page)) == f"{page}: there is no such file"

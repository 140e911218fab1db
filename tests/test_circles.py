"""
Which files import each other in a circle, counted as a reader meets them.

Imports for types alone, inside of functions, and of `.pxd` files count as well.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import primacron

SOURCE: Final = Path(primacron.__file__).parent
LOAD: Final = Path(__file__).parents[1] / "benchmarks" / "load"

Imports = dict[str, set[str]]


def modules(root: Path) -> Mapping[str, Path]:
    """Return the modules of a package with their files."""
    found: dict[str, Path] = {}
    for file in root.rglob("*.py"):
        parts = (root.name, *file.relative_to(root).with_suffix("").parts)
        found[".".join(parts).removesuffix(".__init__")] = file
    return found


def imported(file: Path) -> Iterator[tuple[str, str]]:
    """Yield where a file imports from, and what; what it imports whole has no name."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((each.name, "") for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from ((node.module, each.name) for each in node.names)
    types = file.with_suffix(".pxd")
    if types.exists():
        yield from ((name, "") for name in re.findall(r"^from ([\w.]+) cimport", types.read_text(), re.MULTILINE))


def read(root: Path) -> Imports:
    """Return which modules of a package each of them imports."""
    files = modules(root)
    return {
        module: {
            target
            for source, name in imported(file)
            if (target := f"{source}.{name}" if f"{source}.{name}" in files else source) in files and target != module
        }
        for module, file in files.items()
    }


def read_includes(folder: Path) -> Imports:
    """Return which files in C include which others; a header and its source are one."""
    found: Imports = {}
    for file in sorted(folder.glob("*.[ch]")):
        included = set(re.findall(r'^#include "([\w.]+)\.h"', file.read_text(), re.MULTILINE))
        found.setdefault(file.stem, set()).update(included - {file.stem})
    return found


def reached_from(start: str, imports: Imports) -> set[str]:
    """Return all modules that one leads to."""
    found: set[str] = set()
    waiting = [*imports[start]]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += imports[module]
    return found


def circles(imports: Imports) -> list[set[str]]:
    """Return the groups of modules that lead to each other."""
    reached = {module: reached_from(module, imports) for module in imports}
    found: list[set[str]] = []
    for module in sorted(imports):
        circle = {other for other in reached[module] if module in reached[other]}
        if circle and circle not in found:
            found.append(circle)
    return found


def test_no_files_import_each_other() -> None:
    assert circles(read(SOURCE)) == []


def test_no_files_of_the_load_generator_include_each_other() -> None:
    includes = read_includes(LOAD)
    assert circles(includes) == []
    assert reached_from("eioload", includes) == includes.keys() - {"eioload", "floor"}


def test_a_circle_is_found_wherever_it_hides(tmp_path: Path) -> None:
    package = tmp_path / "house"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text("if False:\n    from house.b import B\n")
    (package / "b.py").write_text("def f():\n    from house import c\n")
    (package / "c.py").write_text("")
    (package / "c.pxd").write_text("from house.a cimport A\n")
    (package / "d.py").write_text("from house.a import A\nimport house.c\n")
    assert circles(read(package)) == [{"house.a", "house.b", "house.c"}]


def test_a_circle_of_headers_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text('#include "a.h"\n#include "b.h"\n')
    (tmp_path / "a.h").write_text("")
    (tmp_path / "b.h").write_text("#include <stdio.h>\n")
    (tmp_path / "b.c").write_text('#include "b.h"\n#include "a.h"\n')
    assert circles(read_includes(tmp_path)) == [{"a", "b"}]

"""The package is one product in two forms: the types of the compiled one say what the sources say."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import sys
from pathlib import Path
from typing import Final

import pytest

import primacron
from primacron.plain import SourceFinder
from tests.support.forms import IS_PLAIN

PACKAGE: Final = Path(primacron.__file__).parent
TYPED: Final = sorted(PACKAGE.rglob("*.pxd"))
#: ``cdef class Name(Base):`` at the beginning of a line, and an attribute in it: ``cdef public list name``.
CLASS: Final = re.compile(r"^cdef class (\w+)")
ATTRIBUTE: Final = re.compile(r"^    cdef (?:public |readonly )?[\w.]+(?:\[[^]]*])? (\w+)$")


def typed_attributes(types: Path) -> dict[str, set[str]]:
    """Return the attributes of the classes of a ``.pxd`` file."""
    found: dict[str, set[str]] = {}
    current: set[str] | None = None
    for line in types.read_text().splitlines():
        if beginning := CLASS.match(line):
            current = found.setdefault(beginning[1], set())
        elif line and not line.startswith(" "):
            current = None
        elif current is not None and (attribute := ATTRIBUTE.match(line)):
            current.add(attribute[1])
    return found


def source_attributes(source: Path) -> dict[str, set[str]]:
    """Return the attributes of the classes of a module: their slots, or without those what they set of themselves."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.ClassDef):
            assigned = [inner for inner in ast.walk(node) if isinstance(inner, ast.Assign | ast.AnnAssign)]
            targets = [(each, target) for each in assigned for target in _targets(each)]
            slots = [each.value for each, target in targets if ast.unparse(target) == "__slots__" and each.value]
            own = {target.attr for _, target in targets if isinstance(target, ast.Attribute) and _is_self(target.value)}
            found[node.name] = set(ast.literal_eval(slots[0])) if slots else own
    return found


def _targets(assignment: ast.Assign | ast.AnnAssign) -> list[ast.expr]:
    if isinstance(assignment, ast.AnnAssign):
        return [assignment.target]
    return [
        each for target in assignment.targets for each in (target.elts if isinstance(target, ast.Tuple) else [target])
    ]


def _is_self(value: ast.expr) -> bool:
    return isinstance(value, ast.Name) and value.id == "self"


@pytest.mark.parametrize("types", TYPED, ids=lambda types: str(types.relative_to(PACKAGE)))
def test_a_compiled_class_has_the_attributes_that_its_source_has(types: Path) -> None:
    typed, source = typed_attributes(types), source_attributes(types.with_suffix(".py"))
    assert {name: sorted(typed[name]) for name in typed} == {name: sorted(source[name]) for name in typed}


def test_the_attributes_of_compiled_classes_are_found() -> None:
    everything = [each for types in TYPED for attributes in typed_attributes(types).values() for each in attributes]
    assert len(everything) > 100  # a change of how they are written must not make the test above see none


def test_all_modules_are_of_the_form_of_this_run() -> None:
    for module in pkgutil.walk_packages(primacron.__path__, "primacron."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    ours = {name: str(module.__file__) for name, module in sys.modules.items() if name.startswith("primacron")}
    compiled = {name for name, file in ours.items() if not file.endswith(".py")}
    if IS_PLAIN:
        assert compiled == set()
    else:
        assert compiled == {name for name in ours if SourceFinder.find_spec(name, None) is not None}

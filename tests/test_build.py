"""Building the package where there is no usable C compiler: it is installed all the same, as plain Python."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
#: Two modules that need no other one to be compiled.
MODULES: Final = ("ids", "protocol/packets")
NO_COMPILER: Final = "/no/such/compiler"
#: What a compiler says that has no Python.h, for all modules or for one.
NO_HEADERS: Final = "#!/bin/sh\necho 'fatal error: Python.h: No such file or directory' >&2\nexit 1\n"
FAILS_FOR_ONE: Final = '#!/bin/sh\ncase "$*" in *packets*) exit 1 ;; esac\nexec {compiler} "$@"\n'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project with a few of its compiled modules."""
    shutil.copy(ROOT / "setup.py", tmp_path)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "primacron"\nversion = "0"\n')
    for module in MODULES:
        target = tmp_path / "src" / "primacron" / f"{module}.py"
        target.parent.mkdir(parents=True, exist_ok=True)
        for path in (target, target.with_suffix(".pxd")):
            shutil.copy(ROOT / path.relative_to(tmp_path), path)
    return tmp_path


def build(project: Path, compiler: str, **environment: str) -> tuple[str, set[str]]:
    """Build the modules in place; return what was printed, and the modules that are compiled."""
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--inplace"],
        cwd=project,
        env={**os.environ, **environment, "CC": compiler},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout, {path.name.partition(".")[0] for path in project.joinpath("src").rglob("*.so")}


def script(project: Path, text: str) -> str:
    """Return a compiler that is this script."""
    path = project / "cc"
    path.write_text(text.format(compiler=shutil.which(the_compiler())))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def the_compiler() -> str:
    """Return the command of the compiler, without its flags."""
    return str(os.environ.get("CC") or sysconfig.get_config_var("CC")).split(maxsplit=1)[0]


def test_without_a_compiler_it_is_plain_and_says_so(project: Path) -> None:
    said, compiled = build(project, NO_COMPILER)
    assert compiled == set()
    assert "primacron: no C compiler, or no Python.h: installed as plain Python, and slower" in said


def test_a_compiler_without_the_headers_of_python_is_none(project: Path) -> None:
    said, compiled = build(project, script(project, NO_HEADERS))
    assert compiled == set()
    assert "installed as plain Python" in said


def test_modules_are_compiled_together_or_not_at_all(project: Path) -> None:
    said, compiled = build(project, script(project, FAILS_FOR_ONE))
    assert compiled == set()
    assert "installed as plain Python" in said


def test_it_is_optimised_whatever_the_environment_says(project: Path) -> None:
    said, compiled = build(project, the_compiler(), CFLAGS="-O0")
    assert compiled == {"ids", "packets"}
    commands = [line.split() for line in said.splitlines() if " -c " in line]
    assert len(commands) == len(MODULES)
    # Of several the last one counts.
    assert [[each for each in command if each.startswith("-O")][-1] for command in commands] == ["-O3", "-O3"]

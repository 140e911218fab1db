"""What is built from the sources: without a usable C compiler plain Python, and the source distribution."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path
from typing import Final

import pytest

from tests.support.program import running

ROOT: Final = Path(__file__).parent.parent
#: Two modules that need no other one to be compiled.
MODULES: Final = ("ids", "protocol/packets")
NO_COMPILER: Final = "/no/such/compiler"
#: What the source distribution holds beside the package and the examples.
AROUND: Final = {"CHANGELOG.md", "LICENSE", "MANIFEST.in", "Makefile", "README.md", "pyproject.toml", "setup.py"}
#: What setuptools adds.
ADDED: Final = {"PKG-INFO", "setup.cfg"}
EGG_INFO: Final = "src/primacron.egg-info/"
SOURCES: Final = {".py", ".pxd", ".lua", ".typed"}
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


# The source distribution


@pytest.fixture(scope="module")
def distribution(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution of a working copy in which things lie about."""
    copy = tmp_path_factory.mktemp("copy")
    for name in AROUND:
        shutil.copy(ROOT / name, copy)
    for name in ("src", "examples"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("*.so", "*.egg-info", "__pycache__"))
    for stray in (
        *("tests/test_ids.py", "tests/protocol/test_packets.py", "benchmarks/case.py", "build/lib/old.py"),
        *("src/primacron/ids.cpython-311-x86_64-linux-gnu.so", "src/primacron/ids.c"),
        *("examples/auction/__pycache__/server.cpython-311.pyc", "examples/auction/server.so", ".venv/lib/site.py"),
    ):
        (copy / stray).parent.mkdir(parents=True, exist_ok=True)
        (copy / stray).write_text("")
    command = [sys.executable, "setup.py", "--quiet", "sdist", "--dist-dir", str(copy / "dist")]
    done = subprocess.run(command, cwd=copy, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    (archive,) = (copy / "dist").iterdir()
    return archive


def test_the_source_distribution_holds_the_package_and_the_examples_and_nothing_that_lies_about(
    distribution: Path,
) -> None:
    with tarfile.open(distribution) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    package = {path for path in (ROOT / "src").rglob("*") if path.suffix in SOURCES}
    examples = {path for path in (ROOT / "examples").rglob("*") if path.is_file() and path.suffix != ".pyc"}
    expected = AROUND | ADDED | {str(path.relative_to(ROOT)) for path in package | examples}
    assert {name for name in names if not name.startswith(EGG_INFO)} == expected


async def test_the_source_distribution_is_installed_without_a_compiler_and_says_so_when_it_starts(
    distribution: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "installed"
    options = ("--quiet", "--no-build-isolation", "--no-deps", "--no-index", "--target")
    command = [sys.executable, "-m", "pip", "install", *options, str(target), str(distribution)]
    monkeypatch.setenv("CC", NO_COMPILER)
    await asyncio.to_thread(subprocess.run, command, check=True)
    monkeypatch.setenv("PYTHONPATH", str(target))
    server = "import primacron as p; print(p.__file__, flush=True); p.Primacron(namespace='x').run(0, '127.0.0.1')"
    async with running("-c", server, cwd=tmp_path) as program:
        await program.wait_for("plain Python, not compiled")
    assert program.printed.startswith(str(target / "primacron" / "__init__.py"))

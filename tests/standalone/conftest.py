"""The frame codec in both its forms, each with an echo server in a process of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib.util import module_from_spec
from types import ModuleType

import pytest

from primacron.plain import SourceFinder
from primacron.standalone import frames
from tests.standalone.cases import Codec
from tests.standalone.peer import DEADLINE


def _has_compiler() -> bool:
    command = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    return shutil.which(command.split()[0]) is not None


#: Where there is a C compiler the compiled codec must be there too: its tests fail if it is not.
CODECS = ("compiled", "plain") if frames.COMPILED or _has_compiler() else ("plain",)


@contextlib.contextmanager
def echo_process(*flags: str) -> Iterator[tuple[int, str]]:
    """Run the echo server in a process of its own; return its port and which codec it says it runs on."""
    command = [sys.executable, "-m", "primacron.standalone.echo", "0", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            uri, codec = process.stdout.readline().split()
            yield int(uri.rstrip("/").rpartition(":")[2]), codec
        finally:
            process.terminate()
            assert process.wait(DEADLINE) == 0


def _load_plain() -> ModuleType:
    """Load the codec from its source, beside the compiled one."""
    spec = SourceFinder.find_spec(frames.__name__, None)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session", params=CODECS)
def codec(request: pytest.FixtureRequest) -> Iterator[Codec]:
    """The frame codec, compiled and as plain Python."""
    name = str(request.param)
    if name == "compiled":
        assert frames.COMPILED, "the codec is not compiled: python setup.py build_ext --inplace"
    module = frames if name == "compiled" else _load_plain()
    with echo_process(*(["--plain"] if name == "plain" else [])) as (port, running):
        assert running == name
        yield Codec(name, module, port)

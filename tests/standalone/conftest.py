"""The frame codec, and an echo server on it in a process of its own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

from primacron.standalone import frames
from tests.standalone.cases import Codec
from tests.standalone.peer import DEADLINE


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


@pytest.fixture(scope="session")
def codec() -> Iterator[Codec]:
    """The frame codec in the form of this run, with an echo server."""
    with echo_process() as (port, running):
        assert running == ("compiled" if frames.COMPILED else "plain")
        yield Codec(running, frames, port)

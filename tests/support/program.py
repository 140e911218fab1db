"""A program in a separate process, started and stopped as a user would."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

DEADLINE = 20.0
ROOT = Path(__file__).parent.parent.parent


class Program:
    """A running Python program, and its output so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.printed = ""

    async def wait_for(self, pattern: str) -> re.Match[str]:
        """Read output until it matches the pattern."""
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(DEADLINE):
                while (found := re.search(pattern, self.printed)) is None:
                    part = await self._process.stdout.read(4096)
                    assert part, f"the program ended without printing {pattern!r}:\n{self.printed}"
                    self.printed += part.decode()
                return found
        except TimeoutError:
            raise AssertionError(f"the program did not print {pattern!r} but:\n{self.printed}") from None

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def send_signal(self, number: int) -> None:
        """Send a signal; does nothing if the process has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, unless the process has ended, and return the exit status."""
        self.send_signal(number)
        return await self.wait()

    async def wait(self) -> int:
        """Wait for the process to end and return the exit status."""
        try:
            async with asyncio.timeout(DEADLINE):
                out, _ = await self._process.communicate()
        except TimeoutError:
            self._process.kill()
            out, _ = await self._process.communicate()
            raise AssertionError(f"the program did not end:\n{self.printed}{out.decode()}") from None
        self.printed += out.decode()
        return self._process.returncode or 0


@contextlib.asynccontextmanager
async def running(*arguments: str | Path, cwd: Path = ROOT) -> AsyncIterator[Program]:
    """Run ``python`` with these arguments for the duration of the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=cwd,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    program = Program(process)
    try:
        yield program
    finally:
        if process.returncode is None:
            await program.stop()

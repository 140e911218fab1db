"""The library's log records, awaited one by one."""

from __future__ import annotations

import asyncio
import logging

DEADLINE = 10.0


class Lines(logging.Handler):
    """Collects log records, for tests to await."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self._new = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self._new.set()

    async def next(self) -> logging.LogRecord:
        """Wait for a record, and remove it."""
        async with asyncio.timeout(DEADLINE):
            while not self.records:
                self._new.clear()
                await self._new.wait()
        return self.records.pop(0)

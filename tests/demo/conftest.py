"""A browser for the tests of the demo."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Browser

from tests.support.browser import chromium


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """One event loop for all tests of a module, as they share the browser."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
async def browser(anyio_backend: object) -> AsyncIterator[Browser]:
    """A Chromium; each page that a test opens has cookies and storage of its own."""
    async with chromium() as running:
        yield running

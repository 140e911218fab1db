"""Backends on a private Redis, which the test may disrupt."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from primacron.backends import choose_backend
from primacron.config import read_options
from primacron.testing.contract import Ground


@asynccontextmanager
async def ground_on(given: Any, namespace: str, **options: Any) -> AsyncIterator[Ground]:
    """Open backends on what a server would be given; they are closed at the end."""
    open_backend = choose_backend(given, read_options({"namespace": namespace, **options}))
    assert open_backend is not None
    ground = Ground(open_backend)
    try:
        yield ground
    finally:
        await ground.close()

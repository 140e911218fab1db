"""The backends that the contract suite runs on."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from primacron.cluster.base import Bus, Registry
from primacron.cluster.memory import MemoryBus, MemoryRegistry


@dataclass
class Backend:
    """One backend, empty."""

    registry: Registry
    bus: Bus


@pytest.fixture(params=["memory"])
async def backend(request: pytest.FixtureRequest) -> Backend:
    """Return each backend there is, empty."""
    assert request.param == "memory"
    return Backend(MemoryRegistry(), MemoryBus())

"""The contract of backends, on each that there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from primacron.backends import choose_backend
from primacron.cluster.backend import Backend
from primacron.config import read_options
from primacron.testing.contract import CASES, Case, Ground


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_a_backend_keeps_the_contract(case: Case, given: Callable[[], Any], namespace: str) -> None:
    open_backend = choose_backend(given(), read_options({"namespace": namespace, "redis_timeout": 5}))
    assert open_backend is not None
    opener: Callable[[], Backend] = open_backend
    await case(Ground(opener))

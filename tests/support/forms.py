"""The two forms of the package and the lengths of a scenario, as chosen for this test run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final, TypeVar

import pytest

from primacron.plain import SWITCH

T = TypeVar("T")

#: Whether this run tests the package as plain Python.
IS_PLAIN: Final = os.environ.get(SWITCH) == "1"
#: Environment variable for soak tests: 1 makes scenarios as long as in `make soak`, long makes them longer.
SOAK: Final = "SOAK"


@dataclass(frozen=True, slots=True)
class Length:
    """
    The length of a scenario: a few seconds in the normal suite, about a minute in ``make soak``.

    A test with the fixture ``length`` runs at any length, and counts as a soak test.
    """

    is_long: bool
    is_longest: bool = False

    def choose(self, short: T, long: T, longest: T | None = None) -> T:
        """Return the value for this length; ``longest`` is for SOAK=long, and defaults to ``long``."""
        if self.is_longest and longest is not None:
            return longest
        return long if self.is_long else short

    @property
    def seconds(self) -> float:
        """How long each fault of a scenario is observed, in seconds."""
        return self.choose(5.0, 60.0, 300.0)

    @property
    def clients(self) -> int:
        """Number of clients."""
        return self.choose(20, 500, 2_000)


LENGTH: Final = Length(is_long=SOAK in os.environ, is_longest=os.environ.get(SOAK) == "long")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """
    Tests to skip in plain form: all below ``path``, or of those the ones with this parameter.

    ``only`` lists the values of ``parameter`` that still run.
    """

    path: str
    reason: str
    parameter: str | None = None
    only: tuple[str, ...] = ()

    def has(self, item: pytest.Item) -> bool:
        """Tell whether a test is skipped."""
        if not item.nodeid.startswith(self.path):
            return False
        if self.parameter is None:
            return True
        params = getattr(getattr(item, "callspec", None), "params", {})
        return self.parameter in params and params[self.parameter] not in self.only

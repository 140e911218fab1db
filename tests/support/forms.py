"""Two forms of the package, and two lengths of a scenario: what a run of the tests has of each."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final, TypeVar

import pytest

from primacron.plain import SWITCH

T = TypeVar("T")

#: Whether this run tests the package as plain Python.
IS_PLAIN: Final = os.environ.get(SWITCH) == "1"
#: Set to 1, this variable of the environment makes scenarios as long as `make soak` has them; set to long, longer.
SOAK: Final = "SOAK"


@dataclass(frozen=True, slots=True)
class Length:
    """
    How long a scenario is: some seconds among all tests, about a minute in ``make soak``.

    A test that takes the fixture ``length`` has both forms, and is a soak test.
    """

    is_long: bool
    is_longest: bool = False

    def choose(self, short: T, long: T, longest: T | None = None) -> T:
        """Return what fits: ``longest`` is for SOAK=long, and as ``long`` where it is None."""
        if self.is_longest and longest is not None:
            return longest
        return long if self.is_long else short

    @property
    def seconds(self) -> float:
        """How long each fault of a scenario is looked at."""
        return self.choose(5.0, 60.0, 300.0)

    @property
    def clients(self) -> int:
        """How many clients take part."""
        return self.choose(20, 500, 2_000)


LENGTH: Final = Length(is_long=SOAK in os.environ, is_longest=os.environ.get(SOAK) == "long")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """
    Tests that the plain form leaves out: those below ``path``, or of them only those with this parameter.

    ``only`` names the values of ``parameter`` that stay.
    """

    path: str
    reason: str
    parameter: str | None = None
    only: tuple[str, ...] = ()

    def has(self, item: pytest.Item) -> bool:
        """Tell whether a test is left out."""
        if not item.nodeid.startswith(self.path):
            return False
        if self.parameter is None:
            return True
        params = getattr(getattr(item, "callspec", None), "params", {})
        return self.parameter in params and params[self.parameter] not in self.only

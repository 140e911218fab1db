"""
What every backend has to do, as a suite.

With pytest::

    @pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
    async def test_my_backend(case):
        await case(Ground(open_backend))

where ``open_backend`` returns a :class:`primacron.cluster.backend.Backend` for one
more node, all on the same, initially empty store; each case is a coroutine function.
The cases of a subject are in a file of their own.
"""

from typing import Final

from primacron.testing.contract import bus, leases, lists, registry, sets, topics
from primacron.testing.contract.ground import Case, Ground
from primacron.testing.contract.lists import offsets
from primacron.testing.contract.topics import TopicEars

__all__ = ["CASES", "Case", "Ground", "TopicEars", "offsets"]

CASES: Final[list[Case]] = [
    *registry.CASES,
    *leases.CASES,
    *sets.CASES,
    *bus.CASES,
    *topics.CASES,
    *lists.CASES,
]

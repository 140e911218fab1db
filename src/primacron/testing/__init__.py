"""
For the tests of applications, and of backends.

:class:`Client` connects to a server of the same process without a socket,
:class:`Cluster` runs several servers that share their sessions in memory, and
``primacron.testing.contract`` is the suite that a backend has to pass.
"""

from primacron.testing.client import Client, ClientRefused, Received
from primacron.testing.cluster import Cluster

__all__ = ["Client", "ClientRefused", "Cluster", "Received"]

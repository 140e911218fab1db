"""
Tools for testing applications, and backends.

:class:`Client` connects to a server in the same process without a socket,
:class:`Cluster` runs several servers that share their sessions in memory,
:class:`Proxy` is a network that drops connections as real ones do, and
``primacron.testing.contract`` is the suite that every backend has to pass.
"""

from primacron.testing.client import Client, ClientRefused, Received
from primacron.testing.cluster import Cluster
from primacron.testing.proxied import ProxiedConnection
from primacron.testing.proxy import Proxy

__all__ = ["Client", "ClientRefused", "Cluster", "ProxiedConnection", "Proxy", "Received"]

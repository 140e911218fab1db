"""Where a server in another process finds its Redis."""

from __future__ import annotations

from typing import Any

import redis.asyncio
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.sentinel import Sentinel

HOST = "127.0.0.1"


def connect(place: dict[str, Any] | None) -> object:
    """Return what to pass a server as its Redis."""
    if place is None:
        return None
    if "cluster" in place:
        return redis.asyncio.RedisCluster(startup_nodes=[ClusterNode(HOST, port) for port in place["cluster"]])
    if "sentinels" in place:
        sentinel = Sentinel([(HOST, port) for port in place["sentinels"]])  # type: ignore[no-untyped-call, unused-ignore]
        return sentinel.master_for(place["service"])
    return place["url"]

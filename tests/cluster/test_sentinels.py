"""Several sentinels: none is forgotten, whoever asks them for the primary."""

from __future__ import annotations

import asyncio

from redis.asyncio.sentinel import Sentinel

from primacron.cluster.redis.client import SingleClient
from primacron.cluster.redis.settings import read_settings
from tests.support.redis import in_thread, redis_sentinel


async def test_no_sentinel_is_forgotten_when_two_connections_look_for_the_primary(anyio_backend: object) -> None:
    with redis_sentinel() as setup:
        given = Sentinel(setup.addresses).master_for(setup.service)  # type: ignore[no-untyped-call]
        client = SingleClient(read_settings(given), 1.0, ())
        sentinel = client._sentinel
        assert sentinel is not None
        known = {*sentinel.sentinels}
        # The first one does not know the primary, as for a moment in a failover.
        await in_thread(setup.sentinels[0].command, "SENTINEL", "REMOVE", setup.service)
        for _ in range(3):
            found = await asyncio.gather(*(sentinel.discover_master(setup.service) for _ in range(5)))
            assert [port for _, port in found] == [setup.primary.port] * 5
            assert {*sentinel.sentinels} == known
        await client.close()

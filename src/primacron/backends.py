"""Chooses a server's backend by what was passed to its constructor."""

from __future__ import annotations

from collections.abc import Callable

from primacron.cluster.backend import Backend
from primacron.cluster.errors import CommandRefused
from primacron.cluster.memory import Shared
from primacron.cluster.redis.bus import RedisBus
from primacron.cluster.redis.client import open_client
from primacron.cluster.redis.keys import Keys
from primacron.cluster.redis.lists import APPEND, PAGE, RedisLists
from primacron.cluster.redis.pipeline import CommandPipeline
from primacron.cluster.redis.registry import SCRIPTS, RedisRegistry
from primacron.cluster.redis.sets import KEEP, RedisSets
from primacron.cluster.redis.settings import Settings, read_settings
from primacron.cluster.redis.topics import RedisTopics
from primacron.config import Options


def choose_backend(given: object, options: Options) -> Callable[[], Backend] | None:
    """
    Return a function that opens the backend inside the event loop; None for a standalone server.

    Raises:
        OptionError: if what was passed is not a backend.

    """
    if given is None:
        return None
    if isinstance(given, Shared):
        return lambda: given.backend(keep=options.timeout)
    settings = read_settings(given)
    return lambda: _open_redis(settings, options)


def _open_redis(settings: Settings, options: Options) -> Backend:
    client = open_client(settings, options.redis_timeout, (*SCRIPTS, KEEP, APPEND, PAGE))
    keys = Keys(options.namespace)
    pipeline = CommandPipeline(client.execute)
    registry = RedisRegistry(client, pipeline, keys, options.timeout)

    def tell(refused: CommandRefused) -> None:
        registry.on_refused(refused)

    client.on_refused = tell
    bus = RedisBus(client, keys, options.redis_timeout, options.probe)

    async def close() -> None:
        await pipeline.close()
        await client.close()

    topics = RedisTopics(client, keys, options.probe)
    sets = RedisSets(pipeline, keys, options.timeout)
    lists = RedisLists(client, pipeline, keys)
    return Backend(registry, bus, topics, sets, lists, close, lambda: _open_redis(settings, options), settings.place)

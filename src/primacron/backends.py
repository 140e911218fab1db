"""Chooses a server's backend by what was passed to its constructor."""

from __future__ import annotations

from collections.abc import Callable

from primacron.cluster.base import Backend, CommandRefused
from primacron.cluster.keys import Keys
from primacron.cluster.lane import Lane
from primacron.cluster.memory import Shared
from primacron.cluster.redis_bus import RedisBus
from primacron.cluster.redis_client import open_client
from primacron.cluster.redis_lists import APPEND, PAGE, RedisLists
from primacron.cluster.redis_registry import SCRIPTS, RedisRegistry
from primacron.cluster.redis_sets import KEEP, RedisSets
from primacron.cluster.redis_settings import Settings, read_settings
from primacron.cluster.redis_topics import RedisTopics
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
    lane = Lane(client.execute)
    registry = RedisRegistry(client, lane, keys, options.timeout)

    def tell(refused: CommandRefused) -> None:
        registry.on_refused(refused)

    client.on_refused = tell
    bus = RedisBus(client, keys, options.redis_timeout, options.probe)

    async def close() -> None:
        await lane.close()
        await client.close()

    topics = RedisTopics(client, keys, options.probe)
    sets = RedisSets(lane, keys, options.timeout)
    lists = RedisLists(client, lane, keys)
    return Backend(registry, bus, topics, sets, lists, close, lambda: _open_redis(settings, options), settings.place)

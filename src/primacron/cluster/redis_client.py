"""
Connections to Redis: alone, behind Sentinel, or a Redis Cluster.

The one place where redis-py is imported. Of a client that the application passes
only the settings are used: connections are our own, with binary replies and
deadlines, and what was passed is never closed or changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from primacron.cluster.base import BackendUnavailable
from primacron.cluster.lane import Command
from primacron.errors import OptionError

TAKES: Final = (
    "None, a URL, the module redis or redis.asyncio, or a client of redis-py: "
    "Redis, RedisCluster, or one that Sentinel.master_for returned"
)

_CREDENTIALS: Final = re.compile(".*@", re.DOTALL)
_OWN_CLASSES: Final = "a client with the connections of redis-py itself, or with a class derived from its SSLConnection"
#: Settings of a client's connections that ours have too.
_KEPT: Final = frozenset(
    {
        "host", "port", "db", "username", "password", "credential_provider", "path", "socket_keepalive",
        "socket_keepalive_options", "client_name",
    }
)  # fmt: skip
_CREDENTIAL_SETTINGS: Final = frozenset({"username", "password", "credential_provider"})
#: Errors by which Redis says that it does not work now, rather than that a command is wrong.
_TROUBLE: Final = (
    "READONLY", "OOM", "LOADING", "NOAUTH", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MISCONF", "NOREPLICAS", "BUSY",
    "UNKILLABLE", "WRONGPASS", "NOPERM",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Script:
    """A script, by its text and by the name that Redis gives it."""

    text: str
    sha: str

    def call(self, keys: Sequence[str], *args: Any) -> Command:
        """Return the command that runs it."""
        return ("EVALSHA", self.sha, len(keys), *keys, *args)


class Ear:
    """A connection that listens; ``id`` is what Redis calls it."""

    def __init__(self, connection: Any, troubles: tuple[type[Exception], ...]) -> None:
        self._connection = connection
        self._troubles = troubles
        self.id = 0

    async def open(self, seconds: float) -> None:
        """
        Connect.

        Raises:
            BackendUnavailable: if there is no connection within so many seconds.

        """
        try:
            async with asyncio.timeout(seconds):
                await self._connection.connect()
                await self._connection.send_command("CLIENT", "ID")
                self.id = int(await self._connection.read_response())
        except self._troubles as error:
            await self.close()
            raise BackendUnavailable(f"{type(error).__name__}: {error}") from error

    async def send(self, *command: Any) -> None:
        """
        Write a command; what Redis says to it comes with the messages.

        Raises:
            BackendUnavailable: if the connection is lost.

        """
        try:
            await self._connection.send_command(*command)
        except self._troubles as error:
            raise BackendUnavailable(f"{type(error).__name__}: {error}") from error

    async def read(self) -> list[Any]:
        """
        Return what comes next: its kind, its channel, and more.

        Raises:
            BackendUnavailable: if the connection is lost, or something else came.

        """
        try:
            message = await self._connection.read_response()
        except self._troubles as error:
            raise BackendUnavailable(f"{type(error).__name__}: {error}") from error
        if not isinstance(message, list) or len(message) < 3:
            raise BackendUnavailable(f"Redis said {message!r} to one that listens")
        return message

    async def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(*self._troubles):
            await self._connection.disconnect(nowait=True)


class RedisClient(ABC):
    """Runs commands and opens connections that listen."""

    #: The command that publishes, and the ones that listen and stop listening.
    publish: str = "PUBLISH"
    subscribe: str = "SUBSCRIBE"
    unsubscribe: str = "UNSUBSCRIBE"
    #: Whether commands take effect in their order, whatever their keys.
    keeps_order: bool = True

    def __init__(self, timeout: float, scripts: Sequence[Script]) -> None:
        self._redis: Any = importlib.import_module("redis.asyncio")
        self._errors: Any = importlib.import_module("redis.exceptions")
        # RuntimeError is what uvloop says of a connection that the other side has just closed.
        self._troubles = (self._errors.RedisError, OSError, TimeoutError, RuntimeError)
        self._timeout = timeout
        self._scripts = {script.sha: script for script in scripts}

    async def execute(self, commands: Sequence[Command]) -> list[Any]:
        """
        Run commands in their order; in the place of a result there may be an error.

        Raises:
            BackendUnavailable: if it is not known what was done.

        """
        results = await self._run(commands)
        unknown = [index for index, result in enumerate(results) if isinstance(result, self._errors.NoScriptError)]
        if unknown:
            again = await self._run([self._with_text(commands[index]) for index in unknown])
            for index, result in zip(unknown, again, strict=True):
                results[index] = result
        for index, result in enumerate(results):
            if isinstance(result, Exception):
                results[index] = await self._explain(result)
        return results

    def _with_text(self, command: Command) -> Command:
        return ("EVAL", self._scripts[command[1]].text, *command[2:])

    async def _run(self, commands: Sequence[Command]) -> list[Any]:
        pipeline = self._pipeline()
        for command in commands:
            pipeline.execute_command(*command)
        try:
            results: list[Any] = await pipeline.execute(raise_on_error=False)
        except self._troubles as error:
            raise BackendUnavailable(f"{type(error).__name__}: {error}") from error
        return results

    async def _explain(self, error: Exception) -> Exception:
        """Return what an error in the place of a result means."""
        text = f"{type(error).__name__}: {error}"
        if isinstance(error, self._errors.ReadOnlyError):
            await self.reconnect()  # another server has become the primary
        if isinstance(error, self._errors.ResponseError) and not str(error).startswith(_TROUBLE):
            text = f"a command was refused: {text}"
        return BackendUnavailable(text)

    @abstractmethod
    def _pipeline(self) -> Any:
        """Return a pipeline of redis-py."""

    @abstractmethod
    async def tags(self) -> Sequence[str]:
        """Return for each primary a hash tag whose slot it has."""

    @abstractmethod
    async def tag_of(self, key: str) -> str:
        """Return the tag of the primary that has a key."""

    @abstractmethod
    async def listen(self, channel: str) -> Ear:
        """
        Open a connection to the server that has a channel.

        Raises:
            BackendUnavailable: if there is none.

        """

    @abstractmethod
    async def reconnect(self) -> None:
        """Let all later commands find their server anew."""

    @abstractmethod
    async def close(self) -> None:
        """Close all connections."""

    async def _listen(self, connection: Any) -> Ear:
        ear = Ear(connection, self._troubles)
        await ear.open(2 * self._timeout)
        return ear

    def _no_retry(self) -> Any:
        retry = importlib.import_module("redis.asyncio.retry").Retry
        return retry(importlib.import_module("redis.backoff").NoBackoff(), 0)


class SingleClient(RedisClient):
    """One primary, at a fixed address or as Sentinel tells."""

    def __init__(self, settings: Settings, timeout: float, scripts: Sequence[Script]) -> None:
        super().__init__(timeout, scripts)
        common = {
            **settings.connection,
            "decode_responses": False,
            "protocol": 2,
            "retry": self._no_retry(),
            "socket_connect_timeout": timeout,
        }
        self._sentinel = self._new_sentinel(settings.sentinel) if settings.sentinel is not None else None
        self._pool = self._new_pool(settings, {**common, "socket_timeout": timeout})
        # What is listened to comes when it comes; whoever listens notices silence by itself.
        self._ears = self._new_pool(settings, {**common, "socket_timeout": None})
        self._client = self._redis.Redis(connection_pool=self._pool)

    def _new_sentinel(self, settings: SentinelSettings) -> Any:
        connection = {
            **settings.connection,
            "socket_timeout": self._timeout,
            "socket_connect_timeout": self._timeout,
            "retry": self._no_retry(),
        }
        kind = importlib.import_module("redis.asyncio.sentinel").Sentinel
        return kind([*settings.addresses], sentinel_kwargs=connection, **settings.discovery)

    def _new_pool(self, settings: Settings, connection: Mapping[str, Any]) -> Any:
        own = settings.own_class
        if settings.sentinel is None:
            classes = importlib.import_module("redis.asyncio.connection")
            kind = own or getattr(classes, settings.kind)
            return self._redis.ConnectionPool(connection_class=kind, **connection)
        kind = importlib.import_module("redis.asyncio.sentinel").SentinelConnectionPool
        wanted = {"connection_class": own} if own else {"ssl": settings.kind == "SSLConnection"}
        return kind(settings.sentinel.service, self._sentinel, **wanted, **connection)

    def _pipeline(self) -> Any:
        return self._client.pipeline(transaction=False)

    async def tags(self) -> Sequence[str]:
        """See :meth:`RedisClient.tags`."""
        return ("0",)

    async def tag_of(self, key: str) -> str:
        """See :meth:`RedisClient.tag_of`."""
        return "0"

    async def listen(self, channel: str) -> Ear:
        """See :meth:`RedisClient.listen`."""
        return await self._listen(self._ears.make_connection())

    async def reconnect(self) -> None:
        """See :meth:`RedisClient.reconnect`."""
        await self._pool.disconnect()

    async def close(self) -> None:
        """See :meth:`RedisClient.close`."""
        await self._client.aclose()
        await self._pool.disconnect()
        await self._ears.disconnect()
        for each in self._sentinel.sentinels if self._sentinel is not None else ():
            await each.aclose()


class ClusterClient(RedisClient):
    """A Redis Cluster, of version 7 at least: messages go by sharded Pub/Sub."""

    publish = "SPUBLISH"
    subscribe = "SSUBSCRIBE"
    unsubscribe = "SUNSUBSCRIBE"
    keeps_order = False

    def __init__(self, settings: Settings, timeout: float, scripts: Sequence[Script]) -> None:
        super().__init__(timeout, scripts)
        nodes = importlib.import_module("redis.asyncio.cluster").ClusterNode
        connection = _without(settings.connection, "host", "port", "db")
        self._client = self._redis.RedisCluster(
            startup_nodes=[nodes(host, port) for host, port in settings.nodes],
            require_full_coverage=False,
            ssl=settings.kind == "SSLConnection",
            address_remap=settings.address_remap,
            decode_responses=False,
            protocol=2,
            retry=self._no_retry(),
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            **connection,
        )
        self._tags: dict[str, str] = {}

    def _pipeline(self) -> Any:
        return self._client.pipeline()

    async def tags(self) -> Sequence[str]:
        """See :meth:`RedisClient.tags`."""
        try:
            await self._client.initialize()
        except self._troubles as error:
            raise BackendUnavailable(f"{type(error).__name__}: {error}") from error
        wanted = {node.name for node in self._client.get_primaries()}
        found = {name: tag for name, tag in self._tags.items() if self._owner(tag) == name}
        number = 0
        while wanted - found.keys() and number < 16_384:
            tag = str(number)
            found.setdefault(self._owner(tag) or "", tag)
            number += 1
        self._tags = {name: found[name] for name in sorted(wanted & found.keys())}
        return [*self._tags.values()]

    async def tag_of(self, key: str) -> str:
        """See :meth:`RedisClient.tag_of`."""
        if self._owner(key) not in self._tags:
            await self.tags()
        # Only now: before the first command nobody knew which server has which slot.
        owner = self._owner(key)
        if owner is None or owner not in self._tags:
            raise BackendUnavailable("no server has this slot")
        return self._tags[owner]

    def _owner(self, tag: str) -> str | None:
        node = self._client.nodes_manager.slots_cache.get(self._client.keyslot(tag))
        return node[0].name if node else None

    async def listen(self, channel: str) -> Ear:
        """See :meth:`RedisClient.listen`."""
        try:
            await self._client.initialize()
            node = self._client.get_node_from_key(channel)
        except self._troubles as error:
            raise BackendUnavailable(f"{type(error).__name__}: {error}") from error
        if node is None:
            raise BackendUnavailable("no server has this slot")
        settings = {**node.connection_kwargs, "socket_timeout": None, "retry": self._no_retry()}
        return await self._listen(node.connection_class(**settings))

    async def reconnect(self) -> None:
        """See :meth:`RedisClient.reconnect`."""
        await self._client.aclose()

    async def close(self) -> None:
        """See :meth:`RedisClient.close`."""
        await self._client.aclose()


# What the application passes


@dataclass(frozen=True, slots=True)
class SentinelSettings:
    """Where the sentinels are, the name of the service, and what else decides which primary they name."""

    service: str
    addresses: tuple[tuple[str, int], ...]
    connection: Mapping[str, Any]
    discovery: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settings:
    """
    How to connect: the class of redis-py's connections, their settings, and more for Sentinel or a cluster.

    ``own_class`` is an application's class of connections with TLS, which may check more than redis-py does.
    """

    kind: str
    connection: Mapping[str, Any]
    sentinel: SentinelSettings | None = None
    nodes: tuple[tuple[str, int], ...] = ()
    own_class: type | None = None
    address_remap: Callable[[tuple[str, int]], tuple[str, int]] | None = None

    def open(self, timeout: float, scripts: Sequence[Script]) -> RedisClient:
        """Return a client."""
        return (ClusterClient if self.nodes else SingleClient)(self, timeout, scripts)


def read_settings(given: object) -> Settings:
    """
    Return how to connect, by what the application passed.

    Raises:
        OptionError: if that is nothing to connect to, or redis-py is not installed.

    """
    try:
        redis = importlib.import_module("redis.asyncio")
    except ImportError:
        raise OptionError("redis", 'redis-py to be installed: pip install "primacron[redis]"', given) from None
    if isinstance(given, str):
        return _of_url(given)
    if given is redis or given is importlib.import_module("redis"):
        return Settings("Connection", {"host": "localhost", "port": 6379})
    if hasattr(given, "nodes_manager"):
        return _of_cluster(given)
    pool = getattr(given, "connection_pool", None)
    if pool is not None and hasattr(pool, "connection_kwargs"):
        return _of_pool(pool)
    if hasattr(given, "discover_master"):
        raise OptionError("redis", "what Sentinel.master_for(service) returns, not the Sentinel itself", type(given))
    raise OptionError("redis", TAKES, _shown(given))


def _of_url(url: str) -> Settings:
    try:
        if "://" not in url:
            raise ValueError("it has no ://")
        pool = importlib.import_module("redis.asyncio").ConnectionPool.from_url(url)
    except (ValueError, TypeError) as error:
        # What is wrong may be a part of the password.
        why, shown = ("", _CREDENTIALS.sub("***@", url)) if "@" in url else (f" ({error})", url)
        raise OptionError("redis", f"a URL such as redis://localhost:6379{why}", shown) from None
    return _of_pool(pool)


# What protects is taken over, or refused by name: it must not get lost. What only tunes is ours.


def _of_pool(pool: Any) -> Settings:
    service = getattr(pool, "service_name", None)
    kind = _kind_of(pool.connection_class, behind_sentinel=service is not None)
    connection = _kept(pool.connection_kwargs, kind, pool.connection_class)
    own_class = _own_class(pool.connection_class)
    if service is None:
        return Settings(kind, connection, own_class=own_class)
    if not pool.is_master:
        raise OptionError("redis", "what Sentinel.master_for(service) returns, not a replica", type(pool))
    sentinel = _of_sentinel(service, pool.sentinel_manager)
    return Settings(kind, _without(connection, "host", "port"), sentinel, own_class=own_class)


def _of_sentinel(service: str, manager: Any) -> SentinelSettings:
    pools = [each.connection_pool for each in manager.sentinels]
    known = [_of_one_sentinel(each) for each in pools]
    if any(each != known[0] for each in known):
        raise OptionError("redis", "the same settings for each sentinel", "different ones")
    addresses = tuple((each.connection_kwargs["host"], int(each.connection_kwargs["port"])) for each in pools)
    discovery = {"min_other_sentinels": manager.min_other_sentinels}
    forced = getattr(manager, "_force_master_ip", None)
    return SentinelSettings(
        service, addresses, known[0], {**discovery, **({"force_master_ip": forced} if forced else {})}
    )


def _of_one_sentinel(pool: Any) -> dict[str, Any]:
    kind = _kind_of(pool.connection_class)
    if kind == "UnixDomainSocketConnection" or _own_class(pool.connection_class) is not None:
        raise OptionError("redis", "sentinels with the connections of redis-py itself", pool.connection_class)
    settings = _without(_kept(pool.connection_kwargs, kind, pool.connection_class), "host", "port", "db")
    return {**settings, "ssl": True} if kind == "SSLConnection" else settings


def _of_cluster(client: Any) -> Settings:
    manager = client.nodes_manager
    settings = getattr(manager, "connection_kwargs", None) or client.connection_kwargs
    kind = _kind_of_cluster(settings)
    for name in ("connection_pool", "connection_pool_class"):
        if settings.get(name) is not None:
            raise OptionError("redis", f"a cluster without {name}", type(settings[name]))
    if getattr(client, "user_on_connect_func", None) is not None:
        raise OptionError("redis", "a cluster without redis_connect_func", client.user_on_connect_func)
    connection = _kept_of_cluster(settings, kind)
    for node in manager.startup_nodes.values():
        _check_node(node, kind, connection)
    nodes = tuple((str(node.host), int(node.port)) for node in manager.startup_nodes.values())
    return Settings(kind, connection, nodes=nodes, address_remap=getattr(manager, "address_remap", None))


def _kind_of_cluster(settings: Mapping[str, Any]) -> str:
    given = settings.get("connection_class")
    kind = "Connection" if given is None else _kind_of(given)
    if kind == "UnixDomainSocketConnection":
        raise OptionError("redis", "a cluster that is connected to by TCP", given)
    return "SSLConnection" if settings.get("ssl") else kind


def _kept_of_cluster(settings: Mapping[str, Any], kind: str) -> dict[str, Any]:
    # The settings that a cluster's client passes on are checked by redis-py.
    tls = {key: value for key, value in settings.items() if key.startswith("ssl_")}
    if kind != "SSLConnection":
        tls = {}
    taken = inspect.signature(importlib.import_module("redis.asyncio").RedisCluster.__init__).parameters
    return {**{key: value for key, value in settings.items() if key in _KEPT}, **_known_tls(tls, taken)}


def _check_node(node: Any, kind: str, connection: Mapping[str, Any]) -> None:
    """Refuse a node with a client of its own that is connected to in another way than the rest."""
    pool = getattr(getattr(node, "redis_connection", None), "connection_pool", None)
    if pool is None:
        return
    its_kind = _kind_of(pool.connection_class)
    its = _kept(_without(pool.connection_kwargs, "redis_connect_func"), its_kind, pool.connection_class)
    protects = {key for key in {*its, *connection} if key in _CREDENTIAL_SETTINGS or key.startswith("ssl_")}
    differs = sorted(key for key in protects if (its.get(key) or None) != (connection.get(key) or None))
    if its_kind != kind or differs:
        raise OptionError("redis", "the same settings for each node of a cluster", ", ".join(differs) or its_kind)


def _kind_of(given: object, *, behind_sentinel: bool = False) -> str:
    """
    Return which of redis-py's connections a class stands for, be it of its asynchronous or its synchronous half.

    Raises:
        OptionError: if it is a class of somebody else, which may connect to anything in any way.

    """
    for package in ("redis.asyncio", "redis"):
        classes = importlib.import_module(f"{package}.connection")
        if isinstance(given, type) and issubclass(given, classes.SSLConnection):
            return "SSLConnection"
        if behind_sentinel:
            if given is importlib.import_module(f"{package}.sentinel").SentinelManagedConnection:
                return "Connection"
        elif given is classes.Connection or given is classes.UnixDomainSocketConnection:
            return str(given.__name__)
    raise OptionError("redis", _OWN_CLASSES, given)


def _own_class(given: type) -> type | None:
    """Return a class for connections with TLS that is not redis-py's, and that ours can have: an asynchronous one."""
    if not issubclass(given, importlib.import_module("redis.asyncio.connection").SSLConnection):
        return None
    return None if given.__module__.startswith("redis.") else given


def _kept(settings: Mapping[str, Any], kind: str, given: type) -> dict[str, Any]:
    """
    Return the settings that our connections have, too.

    Raises:
        OptionError: if one that protects would be lost, or nobody knows what one does.

    """
    if settings.get("redis_connect_func") is not None:
        raise OptionError("redis", "a client without redis_connect_func", settings["redis_connect_func"])
    kept = {key: value for key, value in settings.items() if key in _KEPT}
    own = _own_class(given)
    rest = {key: value for key, value in settings.items() if key not in _KEPT and key not in _tuning()}
    if own is not None:
        return {**kept, **rest}
    tls = {key: rest.pop(key) for key in settings if key.startswith("ssl_")}
    if kind != "SSLConnection" and any(value is not None for value in tls.values()):
        raise OptionError("redis", "settings of TLS together with TLS, as by rediss://", ", ".join(sorted(tls)))
    if rest:
        raise OptionError("redis", "settings that redis-py has", ", ".join(sorted(rest)))
    taken = inspect.signature(importlib.import_module("redis.asyncio.connection").SSLConnection.__init__).parameters
    return {**kept, **(_known_tls(tls, taken) if kind == "SSLConnection" else {})}


def _known_tls(tls: Mapping[str, Any], taken: Mapping[str, object]) -> dict[str, Any]:
    for key in tls.keys() - taken.keys():
        if tls[key]:
            raise OptionError("redis", "settings that asynchronous clients of redis-py have", key)
    return {key: value for key, value in tls.items() if key in taken}


def _tuning() -> set[str]:
    """Return the settings of redis-py's connections that only tune them: time limits, retries, decoding."""
    names = {"connection_pool"}  # what Sentinel's pools give their connections
    for package in ("redis.asyncio", "redis"):
        classes = importlib.import_module(f"{package}.connection")
        for kind in (classes.AbstractConnection, classes.Connection, classes.UnixDomainSocketConnection):
            names |= inspect.signature(kind.__init__).parameters.keys()
    return names - _KEPT


def _without(settings: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in names}


def _shown(given: object) -> object:
    """Return what an error may show of what was given, which may hold a password."""
    return given if given is None or isinstance(given, bool | int | float) else type(given)

"""
Connection settings, derived from whatever the application passes as its Redis.

Of a client only the settings are used. Those that protect its connections are
carried over or rejected by name; those that merely tune them are replaced by ours.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from primacron.errors import OptionError

TAKES: Final = (
    "None, a URL, the module redis or redis.asyncio, or a client of redis-py: "
    "Redis, RedisCluster, or one that Sentinel.master_for returned"
)

_CREDENTIALS: Final = re.compile(".*@", re.DOTALL)
_OWN_CLASSES: Final = "a client with the connections of redis-py itself, or with a class derived from its SSLConnection"
#: Settings carried over from the application's client.
_KEPT: Final = frozenset(
    {
        "host", "port", "db", "username", "password", "credential_provider", "path", "socket_keepalive",
        "socket_keepalive_options", "client_name",
    }
)  # fmt: skip
_CREDENTIAL_SETTINGS: Final = frozenset({"username", "password", "credential_provider"})


@dataclass(frozen=True, slots=True)
class SentinelSettings:
    """The sentinels' addresses, the service name, and whatever else determines which primary they report."""

    service: str
    addresses: tuple[tuple[str, int], ...]
    connection: Mapping[str, Any]
    discovery: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settings:
    """
    How to connect: redis-py's connection class, its arguments, and extras for Sentinel or a cluster.

    ``own_class`` is a TLS connection class of the application's own, which may verify more than redis-py does.
    """

    kind: str
    connection: Mapping[str, Any]
    sentinel: SentinelSettings | None = None
    nodes: tuple[tuple[str, int], ...] = ()
    own_class: type | None = None
    address_remap: Callable[[tuple[str, int]], tuple[str, int]] | None = None

    @property
    def place(self) -> str:
        """Where Redis is, without credentials."""
        if self.sentinel is not None:
            return f"Redis {self.sentinel.service!r} of the sentinels {_addresses(self.sentinel.addresses)}"
        if self.nodes:
            return f"Redis Cluster at {_addresses(self.nodes)}"
        known = self.connection
        return (
            f"Redis at {known.get('path') or _addresses([(known.get('host', 'localhost'), known.get('port', 6379))])}"
        )


def _addresses(addresses: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in addresses)


def read_settings(given: object) -> Settings:
    """
    Derive the connection settings from what the application passed.

    Raises:
        OptionError: if it is nothing to connect to, or redis-py is not installed.

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
        # The error message may quote part of the password.
        why, shown = ("", _CREDENTIALS.sub("***@", url)) if "@" in url else (f" ({error})", url)
        raise OptionError("redis", f"a URL such as redis://localhost:6379{why}", shown) from None
    return _of_pool(pool)


# Settings that protect are carried over or rejected by name, never dropped. Those that merely tune are ours.


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
    return Settings(kind, without(connection, "host", "port"), sentinel, own_class=own_class)


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
    settings = without(_kept(pool.connection_kwargs, kind, pool.connection_class), "host", "port", "db")
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
    # redis-py itself validates the settings that a cluster client passes on.
    tls = {key: value for key, value in settings.items() if key.startswith("ssl_")}
    if kind != "SSLConnection":
        tls = {}
    taken = inspect.signature(importlib.import_module("redis.asyncio").RedisCluster.__init__).parameters
    return {**{key: value for key, value in settings.items() if key in _KEPT}, **_known_tls(tls, taken)}


def _check_node(node: Any, kind: str, connection: Mapping[str, Any]) -> None:
    """Reject a node with a client of its own that connects differently from the rest."""
    pool = getattr(getattr(node, "redis_connection", None), "connection_pool", None)
    if pool is None:
        return
    its_kind = _kind_of(pool.connection_class)
    its = _kept(without(pool.connection_kwargs, "redis_connect_func"), its_kind, pool.connection_class)
    protects = {key for key in {*its, *connection} if key in _CREDENTIAL_SETTINGS or key.startswith("ssl_")}
    differs = sorted(key for key in protects if (its.get(key) or None) != (connection.get(key) or None))
    if its_kind != kind or differs:
        raise OptionError("redis", "the same settings for each node of a cluster", ", ".join(differs) or its_kind)


def _kind_of(given: object, *, behind_sentinel: bool = False) -> str:
    """
    Return the name of the redis-py connection class that a class, asynchronous or synchronous, corresponds to.

    Raises:
        OptionError: if it is a third-party class, which may connect in any way whatsoever.

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
    """Return the class if it is a third-party asynchronous TLS connection, which ours can use, otherwise None."""
    if not issubclass(given, importlib.import_module("redis.asyncio.connection").SSLConnection):
        return None
    return None if given.__module__.startswith("redis.") else given


def _kept(settings: Mapping[str, Any], kind: str, given: type) -> dict[str, Any]:
    """
    Return the settings to carry over to our connections.

    Raises:
        OptionError: if a setting that protects would be lost, or the effect of one is unknown.

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
    """Return the settings of redis-py's connections that merely tune them: timeouts, retries, decoding."""
    names = {"connection_pool"}  # passed by Sentinel's pools to their connections
    for package in ("redis.asyncio", "redis"):
        classes = importlib.import_module(f"{package}.connection")
        for kind in (classes.AbstractConnection, classes.Connection, classes.UnixDomainSocketConnection):
            names |= inspect.signature(kind.__init__).parameters.keys()
    return names - _KEPT


def without(settings: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return the settings except those named."""
    return {key: value for key, value in settings.items() if key not in names}


def _shown(given: object) -> object:
    """Return what an error may show of a value that could contain a password."""
    return given if given is None or isinstance(given, bool | int | float) else type(given)

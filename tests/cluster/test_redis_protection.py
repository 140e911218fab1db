"""What protects a connection to Redis is taken over from what applications pass, or refused by name."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from redis.asyncio.cluster import ClusterNode
from redis.connection import UnixDomainSocketConnection

from primacron.cluster.errors import BackendUnavailable
from primacron.cluster.redis.client import open_client
from primacron.cluster.redis.settings import read_settings
from primacron.errors import OptionError
from tests.support.redis import HOST, RedisProcess, free_port

TIMEOUT = 5.0
PACKAGES: list[Any] = [redis, redis.asyncio]
OWN_CLASSES = r"connections of redis-py itself, or with a class derived from its SSLConnection"


class Strange(redis.Connection):
    """A class of somebody else, which may connect to anything."""


class AsyncStrange(redis.asyncio.Connection):
    """The same of the asynchronous half."""


class Pinned(redis.asyncio.SSLConnection):
    """Connects to a server with one certificate only; ``pins`` are the fingerprints."""

    def __init__(self, pins: frozenset[str] = frozenset(), **settings: Any) -> None:
        super().__init__(**settings)
        self.pins = pins

    async def _connect(self) -> None:
        await super()._connect()  # type: ignore[no-untyped-call]
        tls: ssl.SSLObject = self._writer.get_extra_info("ssl_object")  # type: ignore[union-attr]
        certificate = tls.getpeercert(binary_form=True)
        assert certificate is not None
        if hashlib.sha256(certificate).hexdigest() not in self.pins:
            self._writer.close()  # type: ignore[union-attr]
            raise ConnectionError("not the certificate that was pinned")


class SyncPinned(redis.SSLConnection):
    """One of the synchronous half."""


class SentinelPinned(redis.asyncio.sentinel.SentinelManagedSSLConnection):
    """One that finds its server by Sentinel."""


# Real connections


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run([*command.split(), *files, "-addext", f"subjectAltName=IP:{HOST}"], check=True, capture_output=True)
    return folder / "cert.pem"


@pytest.fixture(scope="module")
def tls_port(certificate: Path) -> Iterator[int]:
    """The port of a Redis that takes TLS and a password."""
    port = free_port()
    key = certificate.with_name("key.pem")
    files = ["--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file", certificate]
    with RedisProcess("--tls-port", str(port), "--tls-auth-clients", "no", *map(str, files)) as process:
        process.command("CONFIG", "SET", "requirepass", "secret")
        yield port


async def answers(given: object) -> bool:
    """Tell whether what was given can be connected to, both for commands and for listening."""
    client = open_client(read_settings(given), TIMEOUT, ())
    try:
        [pong] = await client.execute([("PING",)])
        subscription = await client.listen("channel")
        await subscription.close()
    finally:
        await client.close()
    return pong in (b"PONG", True)


def pinned(port: int, certificate: Path, *pins: str) -> redis.asyncio.Redis:
    settings: dict[str, Any] = {"host": HOST, "port": port, "password": "secret", "ssl_ca_certs": str(certificate)}
    pool = redis.asyncio.ConnectionPool(connection_class=Pinned, pins=frozenset(pins), **settings)
    return redis.asyncio.Redis(connection_pool=pool)


def pin_of(certificate: Path) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.read_text())).hexdigest()


async def test_connections_of_a_class_derived_from_that_for_tls_use_tls(tls_port: int, certificate: Path) -> None:
    assert await answers(pinned(tls_port, certificate, pin_of(certificate)))


async def test_what_such_a_class_checks_by_itself_is_checked(tls_port: int, certificate: Path) -> None:
    with pytest.raises(BackendUnavailable, match="not the certificate that was pinned"):
        await answers(pinned(tls_port, certificate, "another"))


async def test_a_derived_class_of_the_synchronous_half_uses_tls(tls_port: int, certificate: Path) -> None:
    pool = redis.ConnectionPool(SyncPinned, host=HOST, port=tls_port, password="secret", ssl_ca_certs=str(certificate))
    assert await answers(redis.Redis(connection_pool=pool))


async def test_nothing_is_written_in_the_clear_where_tls_was_asked_for(certificate: Path) -> None:
    """Neither the password nor anything else but the beginning of TLS reaches a server without it."""
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(1))
        writer.close()

    async with await asyncio.start_server(listen, HOST, 0) as server:
        with pytest.raises(BackendUnavailable):
            await answers(pinned(server.sockets[0].getsockname()[1], certificate))
    assert {*heard} == {b"\x16"}


# Classes


@pytest.mark.parametrize("given", [Strange, AsyncStrange, lambda **_: None])
def test_connections_of_another_class_are_refused_by_its_name(given: Any) -> None:
    for package in PACKAGES:
        client = package.Redis(connection_pool=package.ConnectionPool(connection_class=given, host="h"))
        with pytest.raises(OptionError, match=OWN_CLASSES) as refused:
            read_settings(client)
        assert given.__name__ in str(refused.value)


@pytest.mark.parametrize(("package", "given"), [(redis, Strange), (redis.asyncio, AsyncStrange)])
def test_they_are_refused_behind_sentinel_as_well(package: Any, given: Any) -> None:
    sentinel = package.sentinel.Sentinel([("one", 1)])
    with pytest.raises(OptionError, match=given.__name__):
        read_settings(sentinel.master_for("main", connection_class=given))
    strange = package.Redis(connection_pool=package.ConnectionPool(connection_class=given, host="one", port=1))
    sentinel = package.sentinel.Sentinel([("one", 1)])
    sentinel.sentinels = [strange]
    with pytest.raises(OptionError, match=given.__name__):
        read_settings(sentinel.master_for("main"))


async def test_they_are_refused_in_a_cluster_as_well(cluster_processes: list[RedisProcess]) -> None:
    with redis.RedisCluster(host=HOST, port=cluster_processes[0].port) as client:
        [first, *_] = client.nodes_manager.startup_nodes.values()
        pool = redis.ConnectionPool(Strange, host=HOST, port=first.port)
        first.redis_connection = redis.Redis(connection_pool=pool)
        with pytest.raises(OptionError, match="Strange"):
            read_settings(client)
    nodes = redis.asyncio.RedisCluster(startup_nodes=[ClusterNode("one", 1)])
    nodes.connection_kwargs["connection_class"] = AsyncStrange
    with pytest.raises(OptionError, match="AsyncStrange"):
        read_settings(nodes)


async def test_a_class_for_tls_behind_sentinel_is_used_itself() -> None:
    sentinel = redis.asyncio.sentinel.Sentinel([("one", 1)])  # type: ignore[no-untyped-call]
    settings = read_settings(sentinel.master_for("main", connection_class=SentinelPinned, ssl_ca_certs="/ca.pem"))
    assert (settings.kind, settings.own_class) == ("SSLConnection", SentinelPinned)
    client: Any = open_client(settings, TIMEOUT, ())
    connection = client._pool.make_connection()
    assert (type(connection), connection.ca_certs) == (SentinelPinned, "/ca.pem")
    await client.close()


def test_a_class_for_tls_in_a_cluster_is_tls() -> None:
    nodes = redis.asyncio.RedisCluster(startup_nodes=[ClusterNode("one", 1)])
    nodes.connection_kwargs["connection_class"] = Pinned
    assert read_settings(nodes).kind == "SSLConnection"


# Settings


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("redis://h?ssl=true", "ssl"),
        ("redis://h?ssl_cert_reqs=required", "ssl_cert_reqs"),
        ("unix:///run/redis.sock?ssl_ca_certs=/ca.pem", "ssl_ca_certs"),
        ("redis://h?pasword=secret", "pasword"),
        ("rediss://h?pins=x", "pins"),
    ],
)
def test_a_setting_that_would_be_lost_is_refused_by_name(url: str, name: str) -> None:
    with pytest.raises(OptionError, match=rf"'{name}'") as refused:
        read_settings(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_function_that_connects_in_its_own_way_is_refused(package: Any) -> None:
    with pytest.raises(OptionError, match="redis_connect_func"):
        read_settings(package.Redis(redis_connect_func=lambda connection: connection.on_connect()))


def test_a_setting_of_a_synchronous_class_that_nobody_knows_is_refused() -> None:
    pool = redis.ConnectionPool(SyncPinned, host="h", pins={"one"})
    with pytest.raises(OptionError, match="'pins'"):
        read_settings(redis.Redis(connection_pool=pool))


@pytest.mark.parametrize("package", PACKAGES)
def test_what_only_tunes_is_ours(package: Any) -> None:
    tuning = {"socket_timeout": 7, "socket_connect_timeout": 7, "health_check_interval": 9, "max_connections": 3}
    client = package.Redis(host="h", protocol=3, decode_responses=True, encoding="latin-1", **tuning)
    found = {key: value for key, value in read_settings(client).connection.items() if value}
    assert found.pop("socket_keepalive", True)
    found.pop("socket_keepalive_options", None)
    assert found == {"host": "h", "port": 6379}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_client_without_any_setting_is_the_redis_of_this_machine(package: Any) -> None:
    settings = read_settings(package.Redis())
    assert settings.kind == "Connection"
    assert {key: settings.connection[key] for key in ("host", "port")} == {"host": "localhost", "port": 6379}


def test_sentinels_that_are_connected_to_in_different_ways_are_refused() -> None:
    sentinel: Any = redis.sentinel.Sentinel([("one", 1), ("two", 2)])  # type: ignore[no-untyped-call]
    sentinel.sentinels[1] = redis.Redis(host="two", port=2, ssl=True)
    with pytest.raises(OptionError, match="the same settings for each sentinel"):
        read_settings(sentinel.master_for("main"))


def test_a_sentinel_that_is_connected_to_by_a_unix_socket_is_refused() -> None:
    sentinel: Any = redis.sentinel.Sentinel([("one", 1)])  # type: ignore[no-untyped-call]
    sentinel.sentinels[0] = redis.Redis(unix_socket_path="/run/sentinel.sock")
    with pytest.raises(OptionError, match=UnixDomainSocketConnection.__name__):
        read_settings(sentinel.master_for("main"))


@pytest.mark.parametrize("kind", [redis.sentinel.Sentinel, redis.asyncio.sentinel.Sentinel])
async def test_how_sentinel_finds_the_primary_is_taken_over(kind: Callable[..., Any]) -> None:
    sentinel = kind([("one", 1)], min_other_sentinels=2, force_master_ip="10.0.0.1")
    client: Any = open_client(read_settings(sentinel.master_for("main")), TIMEOUT, ())
    assert (client._sentinel.min_other_sentinels, client._sentinel._force_master_ip) == (2, "10.0.0.1")
    await client.close()


async def test_how_a_cluster_maps_its_addresses_is_taken_over(cluster_processes: list[RedisProcess]) -> None:
    asked: list[tuple[str, int]] = []

    def remap(address: tuple[str, int]) -> tuple[str, int]:
        asked.append(address)
        return address

    client = redis.asyncio.RedisCluster(host=HOST, port=cluster_processes[0].port, address_remap=remap)
    ours = open_client(read_settings(client), TIMEOUT, ())
    await ours.tags()
    assert {port for _, port in asked} == {process.port for process in cluster_processes}
    await ours.close()


def test_a_node_of_a_cluster_with_a_client_in_another_way_is_refused(cluster_processes: list[RedisProcess]) -> None:
    with redis.RedisCluster(host=HOST, port=cluster_processes[0].port) as client:
        [first, *_] = client.nodes_manager.startup_nodes.values()
        first.redis_connection = redis.Redis(host=HOST, port=first.port, password="another")
        with pytest.raises(OptionError, match="the same settings for each node of a cluster, got 'password'"):
            read_settings(client)
        first.redis_connection = redis.Redis(host=HOST, port=first.port, ssl=True)
        with pytest.raises(OptionError, match="the same settings for each node of a cluster"):
            read_settings(client)
        first.redis_connection = None


@pytest.mark.parametrize("given", [{"password": "secret"}, ("h", "secret"), b"redis://:secret@h"])
def test_what_is_refused_is_not_shown(given: object) -> None:
    with pytest.raises(OptionError) as refused:
        read_settings(given)
    assert "secret" not in str(refused.value)

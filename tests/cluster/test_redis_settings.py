"""What applications pass in the place of a Redis, and what is made of it."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.credentials
import redis.sentinel
from redis.asyncio.cluster import ClusterNode

from primacron import Primacron
from primacron.cluster.errors import BackendUnavailable
from primacron.cluster.redis.client import SingleClient, open_client
from primacron.cluster.redis.settings import TAKES, Settings, read_settings
from primacron.errors import OptionError
from tests.hostile.arena import until
from tests.support.redis import HOST, RedisProcess, SentinelSetup, free_port

TIMEOUT = 5.0


def of(given: object) -> dict[str, Any]:
    """Return the settings of connections that say anything."""
    return {key: value for key, value in read_settings(given).connection.items() if value not in (None, False)}


# URLs

URLS: dict[str, tuple[str, dict[str, Any]]] = {
    "redis://localhost": ("Connection", {"host": "localhost"}),
    "redis://shop.example:7000/3": ("Connection", {"host": "shop.example", "port": 7000, "db": 3}),
    "redis://:secret@h": ("Connection", {"host": "h", "password": "secret"}),
    "redis://ann:p%40ss@h": ("Connection", {"host": "h", "username": "ann", "password": "p@ss"}),
    "redis://[::1]:6380": ("Connection", {"host": "::1", "port": 6380}),
    "redis://h?db=4&client_name=shop": ("Connection", {"host": "h", "db": 4, "client_name": "shop"}),
    "redis://h?socket_timeout=60&max_connections=5": ("Connection", {"host": "h"}),
    "rediss://h:6380": ("SSLConnection", {"host": "h", "port": 6380}),
    "rediss://h?ssl_ca_certs=/ca.pem&ssl_cert_reqs=none": (
        "SSLConnection",
        {"host": "h", "ssl_ca_certs": "/ca.pem", "ssl_cert_reqs": "none"},
    ),
    "unix:///run/redis.sock?db=2": ("UnixDomainSocketConnection", {"path": "/run/redis.sock", "db": 2}),
    "unix://ann:secret@/run/redis.sock": (
        "UnixDomainSocketConnection",
        {"path": "/run/redis.sock", "username": "ann", "password": "secret"},
    ),
}


@pytest.mark.parametrize("url", URLS)
def test_a_url_tells_how_to_connect(url: str) -> None:
    kind, connection = URLS[url]
    assert read_settings(url) == Settings(kind, connection)


@pytest.mark.parametrize(
    "url",
    ["", "localhost", "localhost:6379", "http://h", "redis:/h", "redis://h:port", "redis://h:99999", "redis://h?db=x"],
)
def test_what_is_no_url_of_a_redis_is_refused(url: str) -> None:
    with pytest.raises(OptionError, match=r"redis://localhost:6379"):
        read_settings(url)


@pytest.mark.parametrize(
    "url", ["http://ann:secret@h", "redis://:sec/ret@h", "redis://ann:secret@h:port", "unix//x:secret@y"]
)
def test_a_url_that_is_refused_does_not_tell_its_password(url: str) -> None:
    with pytest.raises(OptionError) as refused:
        read_settings(url)
    assert "sec" not in str(refused.value)
    assert "redis://localhost:6379" in str(refused.value)


def test_a_url_with_a_setting_of_tls_that_nobody_knows_is_refused() -> None:
    with pytest.raises(OptionError, match="ssl_nonsense"):
        read_settings("rediss://h?ssl_nonsense=1")


# Modules and clients


@pytest.mark.parametrize("module", [redis, redis.asyncio])
def test_the_module_itself_is_the_redis_of_this_machine(module: object) -> None:
    assert read_settings(module) == Settings("Connection", {"host": "localhost", "port": 6379})


@pytest.mark.parametrize("kind", [redis.Redis, redis.asyncio.Redis])
def test_of_a_client_the_settings_of_its_connections_are_used(kind: Callable[..., object]) -> None:
    client = kind(host="h", port=7000, db=3, username="ann", password="secret", client_name="shop", socket_timeout=60)
    assert read_settings(client).kind == "Connection"
    found = of(client)
    wanted = {"host": "h", "port": 7000, "db": 3, "username": "ann", "password": "secret", "client_name": "shop"}
    assert found.items() >= wanted.items()
    assert not found.keys() & {"socket_timeout", "decode_responses", "retry", "protocol"}


@pytest.mark.parametrize("kind", [redis.Redis, redis.asyncio.Redis])
def test_a_client_may_have_credentials_that_change(kind: Callable[..., object]) -> None:
    provider = redis.credentials.UsernamePasswordCredentialProvider("ann", "secret")
    assert of(kind(credential_provider=provider))["credential_provider"] is provider


@pytest.mark.parametrize("kind", [redis.Redis, redis.asyncio.Redis])
def test_a_client_may_use_a_unix_socket(kind: Callable[..., object]) -> None:
    client = kind(unix_socket_path="/run/redis.sock")
    assert read_settings(client).kind == "UnixDomainSocketConnection"
    assert of(client)["path"] == "/run/redis.sock"


@pytest.mark.parametrize("kind", [redis.Redis, redis.asyncio.Redis])
async def test_a_client_may_use_tls(kind: Callable[..., object]) -> None:
    settings = read_settings(kind(host="h", ssl=True, ssl_cert_reqs="none", ssl_ca_certs="/ca.pem"))
    assert settings.kind == "SSLConnection"
    assert settings.connection.items() >= {"ssl_cert_reqs": "none", "ssl_ca_certs": "/ca.pem"}.items()
    client = open_client(settings, TIMEOUT, ())
    assert isinstance(client, SingleClient)
    assert type(client._pool.make_connection()) is redis.asyncio.SSLConnection
    await client.close()


def test_tls_is_never_less_strict_than_what_was_passed() -> None:
    with pytest.raises(OptionError, match="ssl_validate_ocsp"):
        read_settings(redis.Redis(host="h", ssl=True, ssl_validate_ocsp=True))


# Sentinel


@pytest.mark.parametrize("kind", [redis.sentinel.Sentinel, redis.asyncio.sentinel.Sentinel])
def test_what_sentinel_returns_knows_the_sentinels(kind: Callable[..., Any]) -> None:
    sentinel = kind([("one", 1), ("two", 2)], sentinel_kwargs={"password": "watch"}, password="secret", db=3)
    settings = read_settings(sentinel.master_for("main"))
    assert settings.kind == "Connection"
    assert dict(settings.connection) == {"password": "secret", "db": 3}
    assert settings.sentinel is not None
    assert (settings.sentinel.service, settings.sentinel.addresses) == ("main", (("one", 1), ("two", 2)))
    assert settings.sentinel.connection["password"] == "watch"
    assert not settings.sentinel.connection.keys() & {"host", "port", "db", "ssl"}


@pytest.mark.parametrize("kind", [redis.sentinel.Sentinel, redis.asyncio.sentinel.Sentinel])
async def test_sentinels_and_what_they_watch_may_use_tls(kind: Callable[..., Any]) -> None:
    tls = {"ssl": True, "ssl_ca_certs": "/ca.pem"}
    settings = read_settings(kind([("one", 1)], sentinel_kwargs=tls, **tls).master_for("main"))
    assert settings.kind == "SSLConnection"
    client = open_client(settings, TIMEOUT, ())
    assert isinstance(client, SingleClient)
    assert client._sentinel is not None
    pool = client._sentinel.sentinels[0].connection_pool
    assert type(pool.make_connection()) is redis.asyncio.SSLConnection
    assert pool.connection_kwargs["ssl_ca_certs"] == "/ca.pem"
    assert isinstance(client._pool.make_connection(), redis.asyncio.SSLConnection)
    await client.close()


@pytest.mark.parametrize("kind", [redis.sentinel.Sentinel, redis.asyncio.sentinel.Sentinel])
def test_a_sentinel_itself_and_a_replica_are_refused(kind: Callable[..., Any]) -> None:
    sentinel = kind([("one", 1)])
    with pytest.raises(OptionError, match=r"what Sentinel\.master_for\(service\) returns, not the Sentinel itself"):
        read_settings(sentinel)
    with pytest.raises(OptionError, match=r"what Sentinel\.master_for\(service\) returns, not a replica"):
        read_settings(sentinel.slave_for("main"))


# Redis Cluster


async def test_a_cluster_is_known_by_the_nodes_that_it_starts_with() -> None:
    nodes = [ClusterNode("one", 1), ClusterNode("two", 2)]
    settings = read_settings(redis.asyncio.RedisCluster(startup_nodes=nodes, password="secret"))
    assert settings.nodes == (("one", 1), ("two", 2))
    assert settings.kind == "Connection"
    assert settings.connection["password"] == "secret"


async def test_a_cluster_may_use_tls() -> None:
    settings = read_settings(redis.asyncio.RedisCluster.from_url("rediss://ann:secret@h:1?ssl_ca_certs=/ca.pem"))
    assert (settings.kind, settings.nodes) == ("SSLConnection", (("h", 1),))
    assert settings.connection.items() >= {"username": "ann", "password": "secret", "ssl_ca_certs": "/ca.pem"}.items()
    client: Any = open_client(settings, TIMEOUT, ())
    [node] = client._client.nodes_manager.startup_nodes.values()
    assert node.connection_class is redis.asyncio.SSLConnection
    await client.close()


def test_a_synchronous_client_of_a_cluster_will_do(cluster_processes: list[RedisProcess]) -> None:
    with redis.RedisCluster(host=HOST, port=cluster_processes[0].port) as client:
        settings = read_settings(client)
        assert client.ping()
    assert {port for _, port in settings.nodes} <= {process.port for process in cluster_processes}
    assert settings.nodes


# Anything else

STRANGE = [
    1,
    True,
    b"redis://localhost",
    object(),
    {"host": "h"},
    ("h", 6379),
    ["redis://h"],
    redis.Redis,
    redis.asyncio.Redis,
    asyncio,
    lambda: "redis://h",
    redis.ConnectionPool(),
    redis.asyncio.ConnectionPool(),
    Path("/run/redis.sock"),
]


@pytest.mark.parametrize("given", STRANGE)
def test_anything_else_is_refused_with_what_is_taken(given: object) -> None:
    with pytest.raises(OptionError) as refused:
        read_settings(given)
    assert TAKES in str(refused.value)


@pytest.mark.parametrize("given", ["nowhere", object()])
def test_a_server_refuses_it_when_it_is_made(given: Any) -> None:
    with pytest.raises(OptionError, match="option 'redis'"):
        Primacron(given)


# Real connections


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    key, certificate = str(folder / "key.pem"), str(folder / "cert.pem")
    files = ["-keyout", key, "-out", certificate, "-addext", f"subjectAltName=IP:{HOST}"]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    return folder


class Secured(RedisProcess):
    """A Redis that also takes TLS connections, and some by a Unix socket."""

    def __init__(self, certificate: Path) -> None:
        self.tls_port = free_port()
        self.socket = certificate / "redis.sock"
        files = ["--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem", "--tls-ca-cert-file", "cert.pem"]
        named = [str(certificate / each) if each.endswith(".pem") else each for each in files]
        tls = ["--tls-port", str(self.tls_port), "--tls-auth-clients", "no", *named]
        super().__init__(*tls, "--unixsocket", str(self.socket))


@pytest.fixture(scope="module")
def secured(certificate: Path) -> Iterator[Secured]:
    with Secured(certificate) as process:
        yield process


async def answers(given: object) -> bool:
    """Tell whether what was given can be connected to, both for commands and for listening."""
    client = open_client(read_settings(given), TIMEOUT, ())
    try:
        [pong] = await client.execute([("PING",)])
        subscription = await client.listen("channel")
        await subscription.send(("SUBSCRIBE", "channel"))
        kind, channel, _ = await subscription.read()
        await subscription.close()
    finally:
        await client.close()
    return (pong, kind, channel) in ((b"PONG", b"subscribe", b"channel"), (True, b"subscribe", b"channel"))


def clients_of(secured: Secured, certificate: Path) -> dict[str, object]:
    ca = str(certificate / "cert.pem")
    tls = {"host": HOST, "port": secured.tls_port, "ssl": True, "ssl_ca_certs": ca}
    return {
        "a URL": secured.url,
        "a URL with TLS": f"rediss://{HOST}:{secured.tls_port}?ssl_ca_certs={ca}",
        "a URL of a Unix socket": f"unix://{secured.socket}",
        "a client": redis.asyncio.Redis(port=secured.port, decode_responses=True),
        "a synchronous client": redis.Redis(port=secured.port, decode_responses=True),
        "a client with TLS": redis.asyncio.Redis(**tls),  # type: ignore[arg-type]
        "a synchronous client with TLS": redis.Redis(**tls),  # type: ignore[arg-type]
        "a client of a Unix socket": redis.asyncio.Redis(unix_socket_path=str(secured.socket)),
        "a client of the third protocol": redis.asyncio.Redis(port=secured.port, protocol=3),
    }


async def test_a_redis_that_does_not_end_tls_keeps_no_client_from_closing(certificate: Path) -> None:
    with Secured(certificate) as process:
        given = f"rediss://{HOST}:{process.tls_port}?ssl_ca_certs={certificate / 'cert.pem'}"
        # Each closing takes as long as this: short, but enough for a handshake, sooner or later.
        client = open_client(read_settings(given), 0.5, ())
        while True:
            with contextlib.suppress(BackendUnavailable):
                await client.execute([("PING",)])
                break
        process.freeze()
        await client.close()
        process.thaw()
        await until(lambda: len(process.command("CLIENT", "LIST").splitlines()) == 1, "the end of TLS")


async def test_whatever_is_passed_can_be_connected_to(secured: Secured, certificate: Path) -> None:
    for what, given in clients_of(secured, certificate).items():
        assert await answers(given), what


async def test_a_server_whose_certificate_nobody_knows_is_not_connected_to(secured: Secured) -> None:
    with pytest.raises(BackendUnavailable, match="certificate"):
        await answers(f"rediss://{HOST}:{secured.tls_port}")


async def test_what_was_passed_is_neither_closed_nor_changed(secured: Secured) -> None:
    client = redis.asyncio.Redis(port=secured.port, decode_responses=True, socket_timeout=7)
    assert await client.set("key", "value")
    before = {key: copy.copy(value) for key, value in client.connection_pool.connection_kwargs.items()}
    connections = [*client.connection_pool._available_connections]
    assert await answers(client)
    async with Primacron(client, namespace="untouched"):
        pass
    assert client.connection_pool.connection_kwargs.items() >= {"socket_timeout": 7, "decode_responses": True}.items()
    assert client.connection_pool.connection_kwargs.keys() == before.keys()
    assert [*client.connection_pool._available_connections] == connections
    assert all(connection.is_connected for connection in connections)
    assert await client.get("key") == "value"
    await client.aclose()


async def test_a_synchronous_client_that_was_passed_goes_on_as_well(secured: Secured) -> None:
    with redis.Redis(port=secured.port, decode_responses=True) as client:
        client.set("key", "value")
        before = client.client_id()
        assert await answers(client)
        async with Primacron(client, namespace="untouched"):
            pass
        assert client.get("key") == "value"
        assert client.client_id() == before


async def test_a_client_of_sentinel_that_was_passed_goes_on_as_well(sentinel_setup: SentinelSetup) -> None:
    sentinel = redis.asyncio.sentinel.Sentinel(sentinel_setup.addresses)  # type: ignore[no-untyped-call]
    client = sentinel.master_for(sentinel_setup.service)
    await client.set("key", "value")
    assert await answers(client)
    assert await client.get("key") == b"value"
    await client.aclose()
    for each in sentinel.sentinels:
        await each.aclose()


async def test_a_client_of_a_cluster_that_was_passed_goes_on_as_well(cluster_processes: list[RedisProcess]) -> None:
    client = redis.asyncio.RedisCluster(host=HOST, port=cluster_processes[0].port)
    await client.set("key", "value")
    async with Primacron(client, namespace="untouched"):
        pass
    assert await client.get("key") == b"value"
    await client.aclose()

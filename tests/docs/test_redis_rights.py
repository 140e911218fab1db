"""What the page about several servers says of Redis: its settings, and the rights of its user."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis.asyncio
from redis.asyncio.cluster import ClusterNode

from primacron.backends import choose_backend
from primacron.config import read_options
from primacron.testing.contract import CASES, Case, Ground
from tests.docs.blocks import NAMED
from tests.support.redis import HOST, RedisProcess, redis_cluster

CONF = [shlex.split(line) for line in NAMED["redis.conf"].text.splitlines()]
USER = next(line[1:] for line in CONF if line[0] == "user")


def more_rights() -> list[str]:
    """Return what the user of a Redis Cluster may do as well, by the text below the settings."""
    found = re.search(r"`(\+spublish [^`]+)`", NAMED["redis.conf"].page.read_text())
    assert found is not None
    return found[1].split()


@pytest.fixture(scope="module")
def alone() -> Iterator[RedisProcess]:
    with RedisProcess(*(word for line in CONF for word in (f"--{line[0]}", *line[1:]))) as process:
        yield process


@pytest.fixture(scope="module")
def shards() -> Iterator[list[RedisProcess]]:
    with redis_cluster() as nodes:
        for node in nodes:
            assert node.command("ACL", "SETUSER", *USER, *more_rights()) == "OK"
        yield nodes


async def play(case: Case, given: Callable[[], Any], processes: list[RedisProcess]) -> None:
    """Run a case of the contract as the user of the page, and look for what was denied."""
    options = read_options({"namespace": "shop"})
    for process in processes:
        process.command("FLUSHALL")
        process.command("ACL", "LOG", "RESET")
    open_backend = choose_backend(given(), options)
    assert open_backend is not None
    await case(Ground(open_backend))
    assert [process.command("ACL", "LOG") for process in processes] == [""] * len(processes)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_the_user_of_the_page_may_do_all_that_servers_do(case: Case, alone: RedisProcess) -> None:
    await play(case, lambda: f"redis://shop:password@{HOST}:{alone.port}", [alone])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_the_user_of_a_cluster_may_do_all_that_servers_do(case: Case, shards: list[RedisProcess]) -> None:
    nodes = [ClusterNode(HOST, node.port) for node in shards]

    def given() -> Any:
        return redis.asyncio.RedisCluster(startup_nodes=nodes, username="shop", password="password")

    await play(case, given, shards)


def test_the_settings_of_the_page_are_taken(alone: RedisProcess) -> None:
    assert alone.command("CONFIG", "GET", "maxmemory-policy").split()[1] == "noeviction"
    limit = alone.command("CONFIG", "GET", "client-output-buffer-limit")
    assert f"pubsub {256 * 2**20} {64 * 2**20} 60" in limit


def test_the_user_of_the_page_reads_nothing_of_others(alone: RedisProcess) -> None:
    url = f"redis://shop:password@{HOST}:{alone.port}"
    for command in ("GET other:key", "PUBLISH other:channel x", "KEYS *", "FLUSHALL", "CONFIG GET save"):
        denied = alone.cli("-u", url, "--no-auth-warning", *command.split())
        assert "NOPERM" in denied, command

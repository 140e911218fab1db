"""
Connections to Redis: standalone, behind Sentinel, or a Redis Cluster.

The connections are our own, with binary replies and timeouts: the application's
client is never closed or changed. Apart from :mod:`primacron.cluster.redis.settings`
this is the only module that imports redis-py.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from primacron.cluster.errors import BackendUnavailable, CommandRefused, NothingDone
from primacron.cluster.redis.clock import RedisClock
from primacron.cluster.redis.pipeline import Command
from primacron.cluster.redis.settings import SentinelSettings, Settings, without

T = TypeVar("T")

#: Errors that mean Redis is not operational rather than a command being wrong: classes, codes.
_TROUBLES: Final = (
    "AskError", "AuthenticationError", "BusyLoadingError", "ClusterDownError", "MasterDownError", "MovedError",
    "OutOfMemoryError", "ReadOnlyError", "TryAgainError",
)  # fmt: skip
_TROUBLE: Final = re.compile(
    r"\b(READONLY|OOM|LOADING|NOAUTH|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|MISCONF|NOREPLICAS|BUSY|UNKILLABLE|WRONGPASS)\b"
)
#: How Redis, inside scripts and out, denies a user a command, key or channel.
_DENIED: Final = re.compile(r"NOPERM|ACL failure|no permission|can't (run|access)|No permissions", re.IGNORECASE)
#: How a server answers commands on keys that it does not have, or not in one slot: classes, codes.
_ELSEWHERE: Final = ("AskError", "ClusterCrossSlotError", "MovedError")
_ELSEWHERE_CODE: Final = re.compile(r"(MOVED|ASK|CROSSSLOT) ")
_CLUSTER: Final = (
    "this is a Redis Cluster: pass a redis.asyncio.RedisCluster in the place of the address of one of its servers"
)
#: redis-py's message when Redis has closed the connection.
_CLOSED: Final = "closed by server"
#: A script's reply when it runs after its deadline, with the server's time.
_EXPIRED: Final = re.compile(r"EXPIRED (\d+)")
_ENDING: Final = "the server is ending"
#: Placeholder for the deadline, which is only known when a command is sent.
_DEADLINE: Final = object()
#: The fraction of the timeout after which a command must not run any more: timers fire some milliseconds early.
_EARLIER: Final = 0.95
#: Attempts at a command that Redis certainly did not run: it lacked the script, or its clock was not known well enough.
_ROUNDS: Final = 3


@dataclass(frozen=True, slots=True)
class Script:
    """
    A Lua script: its text, and the SHA1 digest by which Redis caches it.

    One that ``writes`` is given a deadline; ``time_at`` is the index of the server's time in its result.
    """

    name: str
    text: str
    sha: str
    writes: bool
    time_at: int | None = None

    def call(self, keys: Sequence[str], *args: Any) -> Command:
        """Return the command that runs the script."""
        deadline = (_DEADLINE,) if self.writes else ()
        return ("EVALSHA", self.sha, len(keys), *keys, *deadline, *args)


def is_trouble(error: Exception) -> bool:
    """Tell whether an error means that Redis is not operational, rather than that one command is wrong."""
    names = {each.__name__ for each in type(error).__mro__}
    if "ResponseError" not in names:
        return True
    return not names.isdisjoint(_TROUBLES) or _TROUBLE.search(str(error)) is not None


def _all_errors(module: Any) -> list[type[Exception]]:
    """Return all exceptions of redis-py: not every one derives from its RedisError."""
    return [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, Exception)]


async def heed(awaitable: Awaitable[T]) -> T:
    """
    Await a call into redis-py without losing a cancellation.

    Its ``asyncio.wait_for`` loses a cancellation that arrives just as it completes, before Python 3.12.
    """
    task = asyncio.current_task()
    before = 0 if task is None else task.cancelling()
    try:
        outcome = await awaitable
    except Exception:
        _demand_no_more(task, before)
        raise
    _demand_no_more(task, before)
    return outcome


def _demand_no_more(task: asyncio.Task[Any] | None, cancellations: int) -> None:
    if task is not None and task.cancelling() > cancellations:
        raise asyncio.CancelledError


def is_denied(why: str) -> bool:
    """Tell whether an error means that the user lacks a permission."""
    return _DENIED.search(why) is not None


def _keep_all(sentinel: Any) -> Any:
    """
    Let a Sentinel of redis-py keep the clients of all its sentinels.

    It moves the one that knew the primary to the front, and when two connections look for the
    primary at once, the second move puts that one in the place of another, which is never asked
    or closed again.
    """
    clients, discover = tuple(sentinel.sentinels), sentinel.discover_master

    async def discover_master(service: str) -> Any:
        try:
            return await discover(service)
        finally:
            first = sentinel.sentinels[0]
            sentinel.sentinels = [first, *(each for each in clients if each is not first)]

    sentinel.discover_master = discover_master
    return sentinel


def _is_of_cluster(error: Exception) -> bool:
    """Tell whether an error means that a key belongs to another server of a Redis Cluster."""
    names = {each.__name__ for each in type(error).__mro__}
    return not names.isdisjoint(_ELSEWHERE) or _ELSEWHERE_CODE.match(str(error)) is not None


def _expired(result: Any) -> int | None:
    """Return the server's time if a script missed its deadline, otherwise None."""
    found = _EXPIRED.match(str(result)) if isinstance(result, Exception) else None
    return int(found[1]) if found is not None else None


class Subscription:
    """A connection for subscriptions; ``id`` is its client id in Redis."""

    def __init__(self, connection: Any, troubles: tuple[type[Exception], ...], moved: Any) -> None:
        self._connection = connection
        self._troubles = troubles
        self._moved = moved
        #: The last command, to which an error refers.
        self._last: tuple[str, ...] = ("",)
        self.id = 0

    async def open(self, seconds: float) -> None:
        """
        Connect.

        Raises:
            BackendUnavailable: if there is no connection within ``seconds``.

        """
        try:
            async with asyncio.timeout(seconds):
                await heed(self._connection.connect())
                self.id = int(await self.ask("CLIENT", "ID"))
        except BaseException as error:
            # When cancelled, too: what redis-py waits for between connecting and the first command leaves it open.
            await self.close()
            if isinstance(error, self._troubles):
                raise BackendUnavailable(f"{type(error).__name__}: {error}") from error
            raise

    async def ask(self, *command: str) -> Any:
        """
        Run a command while there are no subscriptions yet.

        Raises:
            BackendUnavailable: if the connection is lost, or Redis refuses.

        """
        self._last = command
        try:
            await heed(self._connection.send_command(*command))
            return await heed(self._connection.read_response())
        except self._troubles as error:
            raise self._explain(error) from error

    def _explain(self, error: Exception) -> BackendUnavailable:
        if is_trouble(error):
            return BackendUnavailable(f"{type(error).__name__}: {error}")
        return CommandRefused(self._last[0].lower(), " ".join(self._last[1:]), str(error))

    async def send(self, *commands: tuple[str, ...]) -> None:
        """
        Write commands together; the replies arrive among the messages.

        Raises:
            BackendUnavailable: if the connection is lost.

        """
        if not commands:
            return
        self._last = commands[-1]
        try:
            await heed(self._connection.send_packed_command(self._connection.pack_commands(commands)))
        except self._troubles as error:
            raise BackendUnavailable(f"{type(error).__name__}: {error}") from error

    async def read(self) -> list[Any]:
        """
        Return the next message: its kind, its channel, and its payload.

        The kind ``moved`` has a slot as its payload, one that is now on another server.

        Raises:
            BackendUnavailable: if the connection is lost, or something else arrived.

        """
        try:
            message = await heed(self._connection.read_response())
        except self._moved as error:
            return [b"moved", b"", error.slot_id]
        except self._troubles as error:
            raise self._explain(error) from error
        if not isinstance(message, list) or len(message) < 3:
            raise BackendUnavailable(f"Redis said {message!r} to one that listens")
        return message

    async def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(*self._troubles):
            await heed(self._connection.disconnect(nowait=True))


class RedisClient(ABC):
    """Runs commands and opens connections for subscriptions."""

    #: The commands that publish, subscribe and unsubscribe.
    publish: str = "PUBLISH"
    subscribe: str = "SUBSCRIBE"
    unsubscribe: str = "UNSUBSCRIBE"
    #: Whether commands take effect in order, regardless of their keys.
    keeps_order: bool = True

    def __init__(self, timeout: float, scripts: Sequence[Script]) -> None:
        self._redis: Any = importlib.import_module("redis.asyncio")
        self._errors: Any = importlib.import_module("redis.exceptions")
        # uvloop raises RuntimeError on a connection that the other side has just closed.
        self._troubles: tuple[type[Exception], ...] = (
            *_all_errors(self._errors),
            OSError,
            TimeoutError,
            RuntimeError,
        )
        self._timeout = timeout
        self._scripts = {script.sha: script for script in scripts}
        self._clocks: dict[str, RedisClock] = {}
        #: Called with each command that was refused.
        self.on_refused: Callable[[CommandRefused], None] = lambda _: None

    async def execute(self, commands: Sequence[Command]) -> list[Any]:
        """
        Run commands in order; a result may be an exception.

        Raises:
            BackendUnavailable: if it is unknown what was done.

        """
        results: list[Any] = [None] * len(commands)
        pending: Sequence[int] = range(len(commands))
        unknown: set[int] = set()
        for _ in range(_ROUNDS):
            sent = time.monotonic()
            prepared = [self._prepare(commands[index], sent, with_text=index in unknown) for index in pending]
            found = await self._run(prepared)
            heard = time.monotonic()
            for index, result in zip(pending, found, strict=True):
                results[index] = result
                if isinstance(result, self._errors.NoScriptError):
                    unknown.add(index)
                else:
                    self._learn(commands[index], result, sent, heard)
            pending = [index for index in pending if self._was_not_run(results[index])]
            if not pending:
                break
        for index, result in enumerate(results):
            if isinstance(result, Exception):
                results[index] = await self._explain(commands[index], result)
        return results

    def _prepare(self, command: Command, sent: float, *, with_text: bool) -> Command:
        """Fill in what is only known when a command is sent: its deadline, and the script's text if Redis lacks it."""
        script = self._scripts.get(command[1]) if command[0] == "EVALSHA" else None
        if script is None:
            return command
        head = ("EVAL", script.text) if with_text else command[:2]
        if not script.writes:
            return (*head, *command[2:])
        at = 3 + command[2]
        clock = self._clocks.get(self.server_of(command[3]))
        deadline = clock.read(sent + _EARLIER * self._timeout) if clock is not None else None
        # While the clock is unknown the script misses its deadline and reports the time.
        return (*head, *command[2:at], deadline or 0, *command[at + 1 :])

    def _was_not_run(self, result: Any) -> bool:
        return isinstance(result, self._errors.NoScriptError) or _expired(result) is not None

    def _learn(self, command: Command, result: Any, sent: float, heard: float) -> None:
        """Learn a server's time from its answer."""
        script = self._scripts.get(command[1]) if command[0] == "EVALSHA" else None
        if script is None:
            return
        shown = _expired(result)
        if shown is None and script.time_at is not None and isinstance(result, list):
            shown = int(result[script.time_at])
        if shown is not None:
            self._clocks.setdefault(self.server_of(command[3]), RedisClock()).learn(sent, heard, shown)

    def time_of(self, key: str) -> int | None:
        """Return the time in milliseconds on the server that has a key, or None if it is unknown."""
        clock = self._clocks.get(self.server_of(key))
        return clock.read(time.monotonic()) if clock is not None else None

    async def _run(self, commands: Sequence[Command]) -> list[Any]:
        pipeline = self._pipeline()
        for command in commands:
            pipeline.execute_command(*command)
        try:
            results: list[Any] = await heed(pipeline.execute(raise_on_error=False))
        except self._troubles as error:
            raise await self._why_lost(error) from error
        return results

    async def _why_lost(self, error: Exception) -> BackendUnavailable:
        """Return the error for commands that were not answered."""
        return BackendUnavailable(f"{type(error).__name__}: {error}")

    async def _explain(self, command: Command, error: Exception) -> BackendUnavailable:
        """Return the error for an exception in place of a result."""
        if isinstance(error, self._errors.ReadOnlyError):
            await self.reconnect()  # another server has become the primary
        if _expired(error) is not None:
            return NothingDone("it stood still, and left out what had been given up")
        if is_trouble(error):
            return BackendUnavailable(f"{type(error).__name__}: {error}")
        script = self._scripts.get(command[1]) if command[0] == "EVALSHA" else None
        name, key = (script.name, command[3]) if script is not None else (command[0].lower(), command[1])
        return self.refuse(name, key, str(error))

    def refuse(self, command: str, key: object, why: str) -> CommandRefused:
        """Return the error for one refused command, and report it."""
        refused = CommandRefused(command, str(key), why)
        self.on_refused(refused)
        return refused

    def judge(self, command: str, key: str, why: str) -> BackendUnavailable:
        """Return the error for a failure that a script returned among other results."""
        return BackendUnavailable(why) if _TROUBLE.search(why) else self.refuse(command, key, why)

    async def attempt(self, script: Command, channel: str) -> list[tuple[str, str]]:
        """
        Check the user's permissions; return what failed, and why.

        ``script`` tries commands itself; ``channel`` may be published and subscribed to.

        Raises:
            BackendUnavailable: if Redis is not operational.

        """
        commands = [self._prepare(script, 0.0, with_text=True), script, (self.publish, channel, "")]
        found = await self._run(commands)
        failed = [
            (command[0].lower(), str(result))
            for command, result in zip(commands, found, strict=True)
            if isinstance(result, Exception)
        ]
        if isinstance(found[1], list):
            failed += [(name.decode(), why.decode("utf-8", "replace")) for name, why in found[1]]
        return failed + await self._attempt_to_listen(channel)

    async def _attempt_to_listen(self, channel: str) -> list[tuple[str, str]]:
        try:
            subscription = await self.listen(channel, tells=False)
        except CommandRefused as error:
            return [(f"{error.command}|{error.key.lower()}", error.why)]
        failed: list[tuple[str, str]] = []
        try:
            async with asyncio.timeout(2 * self._timeout):
                for command in self._of_listeners(subscription, channel):
                    try:
                        await subscription.ask(*command)
                    except CommandRefused as error:
                        name = "|".join(command[:2]) if command[0] == "CLIENT" else command[0]
                        failed.append((name.lower(), error.why))
        except TimeoutError as error:
            raise BackendUnavailable("it does not answer one that listens") from error
        finally:
            await subscription.close()
        return failed

    def _of_listeners(self, subscription: Subscription, channel: str) -> list[tuple[str, ...]]:
        """Return the commands that a subscribing connection uses, in an order that Redis accepts."""
        only = [("CLIENT", "LIST", "ID", str(subscription.id))] if self.keeps_order else [("ASKING",)]
        return [*only, (self.subscribe, channel), (self.unsubscribe, channel)]

    @abstractmethod
    def _pipeline(self) -> Any:
        """Return a redis-py pipeline."""

    @abstractmethod
    def server_of(self, key: str) -> str:
        """Return a name for the server that has a key."""

    @abstractmethod
    async def tags(self) -> Sequence[str]:
        """Return, for each primary, a hash tag in one of its slots."""

    @abstractmethod
    async def tag_of(self, key: str) -> str:
        """Return the tag of the primary that has a key."""

    @abstractmethod
    async def listen(self, channel: str, *, tells: bool = True) -> Subscription:
        """
        Open a connection to the server that has a channel; without ``tells`` a refusal is not reported, only raised.

        Raises:
            BackendUnavailable: if it cannot be opened.

        """

    @abstractmethod
    def slot_of(self, key: str) -> int:
        """Return the slot of a key."""

    @abstractmethod
    def on_channels(self, command: str, channels: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the commands that apply ``command`` to channels of one server."""

    @abstractmethod
    async def refresh(self) -> None:
        """
        Reload which server has which slot.

        Raises:
            BackendUnavailable: if no server answers.

        """

    @abstractmethod
    async def reconnect(self) -> None:
        """Make later commands locate their server afresh."""

    @abstractmethod
    async def close(self) -> None:
        """Close all connections, also those that attempts leave that are cancelled or still running."""

    async def _close_each(self, *closings: Callable[[], Awaitable[None]]) -> None:
        """Close one thing after the other: also when a server does not let go of a connection in time."""
        for closing in closings:
            with contextlib.suppress(*self._troubles):
                await heed(closing())

    async def _listen(self, connection: Any, *, tells: bool) -> Subscription:
        subscription = Subscription(connection, self._troubles, self._errors.MovedError)
        try:
            await subscription.open(2 * self._timeout)
        except CommandRefused as error:
            if tells:
                self.on_refused(error)
            raise
        return subscription

    def _no_retry(self) -> Any:
        retry = importlib.import_module("redis.asyncio.retry").Retry
        return retry(importlib.import_module("redis.backoff").NoBackoff(), 0)


class SingleClient(RedisClient):
    """One primary, at a fixed address or discovered through Sentinel."""

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
        # No read timeout: messages arrive when they arrive, and the listener detects silence itself.
        self._subscriptions = self._new_pool(settings, {**common, "socket_timeout": None})
        self._client = self._redis.Redis(connection_pool=self._pool)

    def _new_sentinel(self, settings: SentinelSettings) -> Any:
        connection = {
            **settings.connection,
            "socket_timeout": self._timeout,
            "socket_connect_timeout": self._timeout,
            "retry": self._no_retry(),
        }
        kind = importlib.import_module("redis.asyncio.sentinel").Sentinel
        return _keep_all(kind([*settings.addresses], sentinel_kwargs=connection, **settings.discovery))

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

    async def _why_lost(self, error: Exception) -> BackendUnavailable:
        if _CLOSED in str(error):
            # Redis also does that to unauthenticated clients that send a long command. A short one is told why.
            try:
                await heed(self._client.ping())
            except self._errors.AuthenticationError as refusal:
                error = refusal
            except self._troubles:
                pass
        return await super()._why_lost(error)

    async def _explain(self, command: Command, error: Exception) -> BackendUnavailable:
        if _is_of_cluster(error):
            return BackendUnavailable(_CLUSTER)
        return await super()._explain(command, error)

    def server_of(self, key: str) -> str:
        """Return a constant: there is one server."""
        return "0"

    async def tags(self) -> Sequence[str]:
        """Return a single tag: there is one primary."""
        return ("0",)

    async def tag_of(self, key: str) -> str:
        """Return the only tag."""
        return "0"

    async def listen(self, channel: str, *, tells: bool = True) -> Subscription:
        """Open a connection to the primary."""
        return await self._listen(self._subscriptions.make_connection(), tells=tells)

    def slot_of(self, key: str) -> int:
        """Return a constant: there are no slots."""
        return 0

    def on_channels(self, command: str, channels: Sequence[str]) -> list[tuple[str, ...]]:
        """Return a single command for all channels."""
        return [(command, *channels)] if channels else []

    async def refresh(self) -> None:
        """Do nothing: Sentinel is asked for every connection."""

    async def reconnect(self) -> None:
        """Drop the pooled connections, so that the next ones go to the current primary."""
        await self._close_each(self._pool.disconnect)

    async def close(self) -> None:
        """Close the pools, and the connections to the sentinels."""
        sentinels = self._sentinel.sentinels if self._sentinel is not None else ()
        pools = (self._pool.disconnect, self._subscriptions.disconnect)
        await self._close_each(self._client.aclose, *pools, *(each.aclose for each in sentinels))


class ClusterClient(RedisClient):
    """A Redis Cluster, version 7 or later: messages use sharded Pub/Sub."""

    publish = "SPUBLISH"
    subscribe = "SSUBSCRIBE"
    unsubscribe = "SUNSUBSCRIBE"
    keeps_order = False

    def __init__(self, settings: Settings, timeout: float, scripts: Sequence[Script]) -> None:
        super().__init__(timeout, scripts)
        nodes = importlib.import_module("redis.asyncio.cluster").ClusterNode
        connection = without(settings.connection, "host", "port", "db")
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
        #: The calls that are reading the slot map.
        self._asking: dict[Callable[[], Awaitable[object]], asyncio.Future[object]] = {}
        self._is_closed = False

    def _pipeline(self) -> Any:
        return self._client.pipeline()

    def server_of(self, key: str) -> str:
        """Return the name of the primary that has the key's slot, or an empty string if it is unknown."""
        return self._owner(key) or ""

    async def tags(self) -> Sequence[str]:
        """Return, for each primary, a hash tag in one of its slots, found by trial."""
        await self._know()
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
        """Return the tag of the primary that has the key's slot."""
        if self._owner(key) not in self._tags:
            await self.tags()
        # Looked up again: before the first command the slot map was empty.
        owner = self._owner(key)
        if owner is None or owner not in self._tags:
            raise BackendUnavailable("no server has this slot")
        return self._tags[owner]

    async def _know(self) -> None:
        """Read the slot map, unless it is known."""
        await self._ask(self._client.initialize)

    async def _ask(self, servers: Callable[[], Awaitable[object]]) -> None:
        """
        Read the slot map in a task that all who wait for it share, and that goes on when they are cancelled.

        redis-py leaves connections open where it is cancelled while it closes them after a failure.
        """
        if self._is_closed:
            raise BackendUnavailable(_ENDING)
        asking = self._asking.get(servers)
        if asking is None:
            asking = self._asking[servers] = asyncio.ensure_future(servers())
            asking.add_done_callback(functools.partial(self._asked, servers))
        await asyncio.wait({asking})
        if asking.cancelled():
            raise BackendUnavailable(_ENDING)
        try:
            asking.result()
        except self._troubles as error:
            raise BackendUnavailable(f"{type(error).__name__}: {error}") from error

    def _asked(self, servers: Callable[[], Awaitable[object]], asking: asyncio.Future[object]) -> None:
        del self._asking[servers]
        if not asking.cancelled():
            asking.exception()  # retrieved, so that asyncio does not log it when nobody waits any more

    def _owner(self, tag: str) -> str | None:
        node = self._client.nodes_manager.slots_cache.get(self._client.keyslot(tag))
        return node[0].name if node else None

    async def listen(self, channel: str, *, tells: bool = True) -> Subscription:
        """Open a connection to the primary that has the channel's slot."""
        await self._know()
        try:
            node = self._client.get_node_from_key(channel)
        except self._troubles as error:
            raise BackendUnavailable(f"{type(error).__name__}: {error}") from error
        if node is None:
            raise BackendUnavailable("no server has this slot")
        settings = {**node.connection_kwargs, "socket_timeout": None, "retry": self._no_retry()}
        return await self._listen(node.connection_class(**settings), tells=tells)

    def slot_of(self, key: str) -> int:
        """Return the hash slot of a key."""
        return int(self._client.keyslot(key))

    def on_channels(self, command: str, channels: Sequence[str]) -> list[tuple[str, ...]]:
        """Return one command per channel: a command may only name channels of one slot."""
        return [(command, channel) for channel in channels]

    async def refresh(self) -> None:
        """
        Reload the slot map.

        Raises:
            BackendUnavailable: if no server answers.

        """
        await self._know()
        await self._ask(self._client.nodes_manager.initialize)

    async def reconnect(self) -> None:
        """Drop the connections; the next command reads the slot map again."""
        await self._close_each(self._client.aclose)

    async def close(self) -> None:
        """Close the connections to all servers."""
        self._is_closed = True
        if self._asking:
            # Cancelled only if it takes long: uvloop logs the failure of a cancelled lookup as one that nobody heard.
            await asyncio.wait(self._asking.values(), timeout=self._timeout)
        for asking in self._asking.values():
            asking.cancel()
        if self._asking:
            await asyncio.wait(self._asking.values())
        nodes = self._client.nodes_manager
        # redis-py's own closing leaves out what it opened before it knew the servers, as a cancelled attempt does.
        await self._close_each(self._client.aclose, nodes.aclose, lambda: nodes.aclose("startup_nodes"))


def open_client(settings: Settings, timeout: float, scripts: Sequence[Script]) -> RedisClient:
    """Return a client for the settings; it connects on demand."""
    return (ClusterClient if settings.nodes else SingleClient)(settings, timeout, scripts)

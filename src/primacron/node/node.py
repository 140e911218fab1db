"""The composition root: builds and connects the parts of a process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextvars import Context
from functools import partial
from typing import Any, TypeVar

import msgspec

from primacron.cluster.backend import Backend
from primacron.cluster.cluster import Cluster
from primacron.cluster.finder import Finder
from primacron.cluster.solo import Solo
from primacron.config import Options
from primacron.dialects.choice import Dialects
from primacron.features import FEATURES
from primacron.features.feature import Feature
from primacron.handoff.destination import Destinations
from primacron.handoff.source import Sources
from primacron.handoff.upgrade import IncomingUpgrades, OutgoingUpgrades, end_left
from primacron.ids import Keyring, NodeId, SidIssuer, derive_key, new_node_id
from primacron.metrics import Metrics
from primacron.node.admission import Admissions
from primacron.node.claiming import Claiming
from primacron.node.forwarding import Forwarder, RemoteExchange
from primacron.node.hooks import Application
from primacron.node.registrar import Alone
from primacron.node.registration import Registration
from primacron.node.solo import AllHere
from primacron.protocol.close_reasons import REPLACED, SHUTDOWN
from primacron.protocol.engine import ENDED
from primacron.protocol.handshake import OpenPackets
from primacron.routing.inbound import InboundRequests
from primacron.routing.local import Local
from primacron.routing.remote_audience import ClusterFanout
from primacron.routing.remote_session import RemoteSender
from primacron.routing.router import Router
from primacron.routing.transit import DeferredActs
from primacron.sessions.connection import Connection
from primacron.sessions.eager import Eager
from primacron.sessions.hub import Hub
from primacron.sessions.session import Session
from primacron.threads import Threads
from primacron.times import Times

F = TypeVar("F", bound=Feature)


class Node:
    """The sessions of this process, its membership in the cluster, and what is needed to open a connection."""

    def __init__(
        self,
        options: Options,
        application: Application,
        backend: Backend | None,
        metrics: Metrics,
        context: Context,
        times: Times,
        deliver: Callable[[Node, RemoteExchange], None],
        release: Callable[[Node, RemoteExchange], None],
    ) -> None:
        self.id = new_node_id()
        #: The context in which application code runs that was not called by an outer application.
        self.context = context
        self.options = options
        self.application = application
        self.metrics = metrics
        self._times = times
        self.loop = asyncio.get_running_loop()
        self.hub = Hub(options, self.loop, application, metrics)
        self.eager = Eager(self.loop)
        #: Where handlers with ``thread=True`` run.
        self.threads = Threads(f"handler of {self.id}", options.threads)
        self.dialects = Dialects(options)
        self.hub.encoding = self.dialects.encoding
        self.open_packets = OpenPackets(options)
        keyring = Keyring(*map(derive_key, options.secret))
        self.issuer = SidIssuer(keyring)
        self.local = Local(self.hub, self.dialects, metrics)
        self.router = Router(self.hub, self.local)
        self.hub.router = self.router
        solo = Solo(self.loop.time, options.timeout)
        #: The other nodes.
        self.cluster: Cluster | Solo = solo if backend is None else self._new_cluster(backend, keyring)
        #: By the name that identifies them between nodes.
        self.features = {kind.name: kind(self.hub, self.router, self.cluster, self.start) for kind in FEATURES}
        self.hub.kinds |= {kind.state.name: kind.state for kind in FEATURES if kind.state is not None}
        features = tuple(self.features.values())
        self.admissions = Admissions(options, self.hub, application, self.issuer, self.id, features)
        self.admissions.registrar = Alone(self.admissions.admit_here, self.admissions.holder, solo)
        all_here = AllHere(self.issuer)
        #: Forwards requests for connections of other nodes.
        self.forwarder: Forwarder | AllHere = all_here
        #: Websockets of this node that take over connections of other nodes.
        self.upgrades: IncomingUpgrades | AllHere = all_here
        self._working: set[asyncio.Task[Any]] = set()
        self._excused: set[asyncio.Task[Any]] = set()
        self._is_hurried = False
        if isinstance(self.cluster, Cluster):
            self._connect(self.cluster, partial(deliver, self), partial(release, self))

    def _new_cluster(self, backend: Backend, keyring: Keyring) -> Cluster:
        return Cluster(
            self.id,
            self.issuer.hint,
            backend,
            keyring,
            self.options,
            self.loop,
            self.hub.wheel,
            self.metrics,
            self.application.problem,
            self._times,
            tuple(kind.name for kind in FEATURES if kind.has_sets),
        )

    def _connect(
        self, cluster: Cluster, deliver: Callable[[RemoteExchange], None], release: Callable[[RemoteExchange], None]
    ) -> None:
        finder = Finder(cluster)
        transits = self.admissions.transits
        deferred = self.router.deferral = DeferredActs(self.hub, cluster, self.local, transits)
        sources = Sources(
            self.hub,
            cluster,
            transits,
            deferred,
            self._departed,
            self.admissions.release,
            partial(end_left, self.hub),
            self.start,
        )
        OutgoingUpgrades(self.hub, cluster, sources)
        remote = self.router.remote = RemoteSender(self.hub, cluster, finder, self.local, transits, self.start)
        self.router.fanout = ClusterFanout(self.hub, cluster, finder, self.start)
        InboundRequests(
            self.hub, cluster, finder, self.local, self.router, self.metrics, transits, self.features, self.start
        )
        claiming = Claiming(cluster, finder, self.admissions, self.start)
        self.admissions.registrar = Registration(
            self.options,
            self.hub,
            self.application,
            self.issuer,
            cluster,
            claiming,
            sources,
            self.admissions,
            tuple(self.features.values()),
            self.start,
        )
        self.forwarder = Forwarder(
            self.hub, cluster, finder, self.issuer.is_genuine, deliver, release, self.start, self._times
        )
        destinations = Destinations(
            self.hub,
            cluster,
            self.dialects,
            transits,
            deferred,
            self._expected,
            self._arrived,
            remote.catch_up,
            self.start,
            self._times,
        )
        self.upgrades = IncomingUpgrades(self.hub, cluster, finder, destinations)

    def _departed(self, session: Session) -> None:
        self.admissions.moved(session)
        self.application.leaving(session)

    async def _expected(self, states: dict[str, msgspec.Raw], source: NodeId) -> None:
        for name, packed in states.items():
            feature = self.features.get(name)
            if feature is not None:
                try:
                    await feature.expected(packed, source)
                except Exception as error:  # the session arrives less well prepared for
                    self.application.problem(error)

    def _arrived(self, session: Session, connection: Connection, messages: list[str | bytes]) -> None:
        older = self.hub.add(session, connection)
        self.admissions.arrived(session)
        self.application.arrived(session, [] if connection.phase in ENDED else messages)
        if older is not None and older.connection is not None:
            older.connection.end(REPLACED)
        if self.admissions.is_closed:
            connection.end(SHUTDOWN)  # the others were closed before it arrived

    def feature(self, kind: type[F]) -> F:
        """Return the feature of a class."""
        found = self.features[kind.name]
        assert isinstance(found, kind)
        return found

    # Lifecycle

    async def join(self) -> None:
        """Join the cluster."""
        await self.admissions.registrar.join(int(time.time() * 1000))
        self.hub.wheel.watch_lag()

    def end_sessions(self) -> None:
        """Close all connections, admit no more clients, and stop serving sessions of other nodes."""
        self.admissions.is_closed = True
        self.upgrades.finish()
        self.forwarder.finish()
        for connection in tuple(self.hub.connections.values()):
            connection.end(SHUTDOWN)

    async def finish(self, deadline: float) -> None:
        """Drain the running work and what follows from it; cancel what remains at the deadline."""
        await asyncio.sleep(0)  # tasks just started take their first step; most need no other
        # In a loop: further messages and the end of the session may be queued behind the running handler.
        while not self._is_hurried and (left := deadline - self.loop.time()) > 0:
            if work := self._work():
                await asyncio.wait(work, timeout=left)
            elif self.hub.turns.has_more:
                await asyncio.sleep(0)
            else:
                break
        deadline = self.loop.time() + self._times.cancel
        while (work := self._work()) and (left := deadline - self.loop.time()) > 0:
            self._cancel_work()
            await asyncio.wait(work, timeout=left)

    def excuse(self, task: asyncio.Task[Any] | None) -> None:
        """Exclude a task from draining, as it is itself waiting for :meth:`finish`."""
        if task is not None:
            self._excused.add(task)

    def hurry(self) -> None:
        """Cancel the running handlers and hooks, and cut :meth:`finish` short."""
        self._is_hurried = True
        self._cancel_work()

    def _work(self) -> set[asyncio.Task[Any]]:
        return self._working - self._excused

    def _cancel_work(self) -> None:
        for task in self._work():
            task.cancel()

    async def leave(self) -> None:
        """Leave the cluster; packets that polling clients have not fetched by now are lost."""
        self.forwarder.has_left = True
        await self.cluster.leave()
        self.hub.close()
        self.eager.close()
        self.threads.close()

    # Work

    def track(self, task: asyncio.Task[Any]) -> None:
        """Have :meth:`finish` wait for a task."""
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    def run(
        self, work: Coroutine[Any, Any, Any], done: Callable[[Any, BaseException | None], None]
    ) -> asyncio.Task[Any] | None:
        """Run a coroutine, without a task if it does not suspend, and pass on what it returned or raised."""
        try:
            task = self.eager.start(work)
        except (Exception, asyncio.CancelledError) as error:
            done(None, error)
            return None
        if task is None:
            done(self.eager.value, None)
            return None
        self.track(task)
        task.add_done_callback(lambda finished: self._finished(finished, done))
        return task

    def start(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run one of the library's own coroutines; unexpected exceptions are reported to the application."""
        self.run(work, self._started)

    def _started(self, _: Any, error: BaseException | None) -> None:
        if isinstance(error, Exception):
            self.application.problem(error)

    @staticmethod
    def _finished(task: asyncio.Task[Any], done: Callable[[Any, BaseException | None], None]) -> None:
        if task.cancelled():
            done(None, asyncio.CancelledError())
        else:
            error = task.exception()
            done(None if error is not None else task.result(), error)

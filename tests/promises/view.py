"""How a server sees the others, for whoever has to find out what went wrong: links, leases, epochs and numbers."""

from __future__ import annotations

from typing import Any

from primacron import Primacron
from primacron.cluster.cluster import Cluster
from primacron.cluster.incoming import _Stream
from primacron.cluster.outgoing import _Route
from primacron.cluster.redis.bus import BusReader, RedisBus
from primacron.ids import NodeId


def view_of(server: Primacron) -> dict[str, Any]:
    """Return all that a server knows of its place among the others; times are seconds from now."""
    cluster = server.node.cluster
    assert isinstance(cluster, Cluster)
    now = cluster.loop.time()
    membership, outgoing = cluster._membership, cluster.outgoing
    counters = {name: count for name, count in server.metrics.counters.items() if name.startswith("bus_")}
    return {
        "node": cluster.node,
        "link": cluster.link.state.name,
        "unready": server.unready(),
        "sessions": len(server.node.hub.sessions),
        "up since": _ago(membership.up_since, now),
        "shaken": _ago(membership._shaken_at, now),
        "renewed": _ago(membership._renewed_at, now),
        "knows all": cluster.knows_all(),
        "epochs": membership._epochs,
        "complete in": membership.complete,
        "bus": _bus(cluster, now),
        "open requests": len(cluster.requests),
        "bytes that wait": outgoing.waiting,
        "dirty": [route.destination for route in outgoing._dirty],
        "to all": _route(outgoing._routes.get(None)),
        "others": {node: _other(cluster, node, now) for node in sorted(cluster.ever_met())},
        "counters": counters,
    }


def _ago(at: float | None, now: float) -> float | None:
    return None if at is None else round(at - now, 2)


def _bus(cluster: Cluster, now: float) -> dict[str, Any]:
    bus = cluster.bus
    assert isinstance(bus, RedisBus)
    return {
        "hears": bus.hearing,
        "attends": bus.attends,
        "waiting commands": len(bus._pipeline._queue),
        "listeners": [_reader(reader, now) for reader in bus._readers],
    }


def _reader(reader: BusReader, now: float) -> dict[str, Any]:
    return {
        "connection": None if reader._subscription is None else reader._subscription.id,
        "wants": [*reader.channels],
        "needs": sorted(reader._needed),
        "asked for": sorted(reader._asked),
        "confirmed": sorted(reader.confirmed),
        "heard": _ago(reader._heard_at, now),
    }


def _other(cluster: Cluster, node: NodeId, now: float) -> dict[str, Any]:
    known = cluster._membership.leases._leases[node]
    streams, routes = cluster._incoming._streams, cluster.outgoing._routes
    return {
        "lease ends": _ago(known.ends, now),
        "says": repr(known.lease),
        "heard here": _stream(streams.get((node, False)), now),
        "heard to all": _stream(streams.get((node, True)), now),
        "sent": _route(routes.get(node)),
    }


def _stream(stream: _Stream | None, now: float) -> dict[str, Any] | None:
    if stream is None:
        return None
    return {
        "epoch": stream.epoch,
        "number": stream.number,
        "at": _ago(stream.heard_at, now),
        "parts": len(stream.track),
    }


def _route(route: _Route | None) -> dict[str, Any] | None:
    if route is None:
        return None
    return {
        "epoch": route.epoch,
        "number": route.number,
        "fresh": len(route.fresh),
        "urgent": len(route.urgent),
        "bulk": len(route.bulk),
        "not confirmed": [len(route.sent), route.unconfirmed],
        "asked": [route.asked, route.confirms, route.expected],
    }

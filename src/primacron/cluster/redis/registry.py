"""The registry on Redis; :mod:`primacron.cluster.redis.keys` has its layout, the folder ``scripts`` its writes."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from primacron.cluster.errors import BackendUnavailable, CommandRefused, RightsMissing
from primacron.cluster.redis.client import RedisClient, is_denied
from primacron.cluster.redis.keys import Keys, encode_part, pack_name, unpack_name
from primacron.cluster.redis.lua import WRITE, load_script
from primacron.cluster.redis.pipeline import Command, CommandPipeline, demand
from primacron.cluster.registry import Claim, Epoch, Lease, Outcome, Registry, Renewal, Swapped
from primacron.entries import Entry, Name
from primacron.ids import AccountId, NodeId, SessionId, Sid

_OUTCOMES: Final = {1: Outcome.DONE, 0: Outcome.OTHER, -1: Outcome.ABSENT}
#: Names read from an index at a time.
_SCANNED: Final = 500
#: Entries restored per script run, during which Redis serves nobody else.
_RESTORED: Final = 100


_CLAIM, _RESTORE, _SWAP = load_script("claim"), load_script("restore"), load_script("swap")
_RELEASE, _DROP, _FORGET = load_script("release"), load_script("drop"), load_script("forget")
_RENEW = load_script("renew", time_at=0)
# No deadline: its writes are correct whenever it runs.
_EPOCH = load_script("epoch", writes=False, time_at=2)
_RIGHTS = load_script("rights", writes=False)
SCRIPTS: Final = (_CLAIM, _RESTORE, _SWAP, _RELEASE, _DROP, _FORGET, WRITE, _RENEW, _EPOCH, _RIGHTS)
#: Digits of a generation, a time in milliseconds; anything longer was not written by a node.
_DIGITS: Final = 15


class RedisRegistry(Registry):
    """A registry on Redis; ``keep`` is how long a session's sets outlive it, in seconds."""

    def __init__(self, client: RedisClient, pipeline: CommandPipeline, keys: Keys, keep: float) -> None:
        self._client = client
        self._pipeline = pipeline
        self._keys = keys
        self._keep = round(keep * 1000)

    async def check(self) -> RightsMissing | None:
        """Check the user's permissions on every primary."""
        failed = [each for tag in await self._client.tags() for each in await self._check(tag)]
        if not failed:
            return None
        return RightsMissing(sorted({name for name, _ in failed}), failed[0][1])

    async def _check(self, tag: str) -> list[tuple[str, str]]:
        """Try all commands on one primary; return those that are denied, and why."""
        names = [self._keys.rights(tag, part) for part in ("string", "hash", "set", "list")]
        tried = await self._client.attempt(_RIGHTS.call(names), names[0])
        return [(name, why) for name, why in tried if is_denied(why)]

    def generation(self, account: AccountId) -> int:
        """Return the estimated time of the server that has the account, or ours while that is unknown."""
        return self._client.time_of(self._keys.account(account)) or super().generation(account)

    # Leases

    async def renew(
        self, node: NodeId, lease: Lease, seconds: float, keys: Sequence[bytes], candidate: bytes
    ) -> Renewal:
        """Renew the lease, and read all leases, cluster keys and epochs in the same batch."""
        tags = await self._client.tags()
        blob = msgspec.msgpack.encode(lease)
        known = [key.hex() for key in (candidate, *keys)]
        renewed, indexed, *epochs = await self._pipeline.gather(
            _RENEW.call(
                [self._keys.leases, self._keys.keys, self._keys.attended], node, blob, round(seconds * 1000), *known
            ),
            ("SCARD", self._keys.index(node)),
            *map(self._ask_epoch, tags),
        )
        time, was_alive, leases, cluster_keys, attended = demand(renewed)
        living = [each for each in epochs if not isinstance(each, BackendUnavailable)]
        if not living and not any(isinstance(each, CommandRefused) for each in epochs):
            demand(epochs[0])  # as of one server of a Redis Cluster, where all else was in its own slots
        return Renewal(
            int(time) / 1000,
            _read_leases(leases, int(time)),
            _read_keys(cluster_keys),
            tuple(map(_read_epoch, living)),
            bool(was_alive),
            int(demand(indexed)),
            int(attended),
        )

    def _ask_epoch(self, tag: str) -> Command:
        return _EPOCH.call([self._keys.epoch(tag)], secrets.token_hex(8), int(self._client.keeps_order))

    async def attended(self) -> int:
        """Read the counter, 0 if it is missing or damaged."""
        found = await self._pipeline.submit("GET", self._keys.attended)
        return int(found) if found and found.isdigit() and len(found) <= _DIGITS else 0

    async def retire(self, node: NodeId) -> None:
        """Remove the lease, or mark it as long expired if entries are left in the index."""
        if await self._pipeline.submit("SCARD", self._keys.index(node)):
            ended = b"0 " + msgspec.msgpack.encode(Lease())
            await self._write("HSET", self._keys.leases, node, ended)
        else:
            await self._write("HDEL", self._keys.leases, node)

    def _write(self, command: str, key: str, *args: Any) -> asyncio.Future[Any]:
        """Run a single write command, with a deadline."""
        return self._pipeline.submit(*WRITE.call([key], command, *args))

    # Entries

    async def claim(
        self, account: AccountId, session: SessionId, node: NodeId, sid: Sid, *, replace: bool = True
    ) -> Claim:
        """Add the session to the node's index, then claim its entry."""
        name = (account, session)
        await self._index_first(node, [name])
        keys = self._keys_of(name)
        args = (encode_part(session), node, sid, int(replace))
        entry, before, sets = await self._pipeline.submit(*_CLAIM.call(keys, *args))
        stored = {kind: members for kind, members in zip(self.kinds, sets, strict=False) if members}
        return Claim(_read_entry(session, entry), _read_entry(session, before), stored)

    def _keys_of(self, name: Name) -> list[str]:
        """Return the key of the account's entries, followed by those of the session's sets."""
        return [self._keys.account(name[0]), *(self._keys.set(kind, name) for kind in self.kinds)]

    async def _index_first(self, node: NodeId, names: Sequence[Name]) -> None:
        """Write the index before the entries, so that it never lacks one."""
        added = self._write("SADD", self._keys.index(node), *map(pack_name, names))
        if self._client.keeps_order:
            added.add_done_callback(_hear_failure)
        else:
            await added

    async def restore(self, entries: Sequence[tuple[AccountId, Entry]]) -> list[Swapped | None]:
        """
        Restore entries in chunks, one script run for each.

        Raises:
            BackendUnavailable: if all of them failed.

        """
        if not entries:
            return []
        await self._index_first(entries[0][1].node, [(account, entry.id) for account, entry in entries])
        # A script runs on one server; in a Redis Cluster each entry may be on a different one.
        size = _RESTORED if self._client.keeps_order else 1
        chunks = [entries[begin : begin + size] for begin in range(0, len(entries), size)]
        results = await self._pipeline.gather(*map(self._ask_restore, chunks))
        found = [each for chunk, rows in zip(chunks, results, strict=True) for each in self._read_restored(chunk, rows)]
        failures = [each for each in found if isinstance(each, BackendUnavailable)]
        troubles = [each for each in failures if not isinstance(each, CommandRefused)]
        if troubles and len(failures) == len(found):
            raise troubles[0]
        return [None if isinstance(each, BackendUnavailable) else each for each in found]

    def _ask_restore(self, entries: Sequence[tuple[AccountId, Entry]]) -> Command:
        keys = [self._keys.account(account) for account, _ in entries]
        args = [(encode_part(entry.id), entry.node, entry.generation, entry.sid) for _, entry in entries]
        return _RESTORE.call(keys, *itertools.chain.from_iterable(args))

    def _read_restored(
        self, entries: Sequence[tuple[AccountId, Entry]], result: Any
    ) -> list[Swapped | BackendUnavailable]:
        """Decode the outcome of one script run."""
        if isinstance(result, BackendUnavailable):
            return [result] * len(entries)
        return [
            _read_restored_row(entry.id, row)
            if int(row[0]) >= 0
            else self._client.judge("restore", self._keys.account(account), row[1].decode("utf-8", "replace"))
            for (account, entry), row in zip(entries, result, strict=True)
        ]

    async def release(self, account: AccountId, entry: Entry) -> bool:
        """Remove the entry if it is still the current one, then its name from the index."""
        name = (account, entry.id)
        keys = self._keys_of(name)
        release = _RELEASE.call(keys, encode_part(entry.id), _pack_entry(entry), self._keep)
        forget = WRITE.call([self._keys.index(entry.node)], "SREM", pack_name(name))
        # The index is updated last, so that it never lacks an entry.
        if self._client.keeps_order:
            released, forgotten = await self._pipeline.gather(release, forget)
        else:
            released = demand(await self._pipeline.submit(*release))
            forgotten = await self._pipeline.submit(*forget)
        demand(forgotten)
        return bool(demand(released))

    async def swap(self, account: AccountId, old: Entry, new: Entry) -> Swapped:
        """Replace the entry if it is the expected one, then move its name to the new node's index."""
        name = (account, new.id)
        await self._index_first(new.node, [name])
        args = (encode_part(old.id), _pack_entry(old), _pack_entry(new))
        swapped = _read_swapped(old.id, await self._pipeline.submit(*_SWAP.call([self._keys.account(account)], *args)))
        if swapped.outcome is Outcome.DONE and old.node != new.node:
            self._write("SREM", self._keys.index(old.node), pack_name(name)).add_done_callback(_hear_failure)
        return swapped

    async def find(self, account: AccountId, sessions: Sequence[SessionId]) -> list[Entry | None]:
        """Return the entries of sessions, in one round trip."""
        found = await self._pipeline.submit("HMGET", self._keys.account(account), *map(encode_part, sessions))
        return [_read_entry(session, value) for session, value in zip(sessions, found, strict=True)]

    async def find_surely(self, account: AccountId, sessions: Sequence[SessionId]) -> tuple[list[Entry | None], Epoch]:
        """Return the entries of sessions, followed by the epoch of the primary that has them."""
        key = self._keys.account(account)
        found, epoch = await self._read_surely(key, "HMGET", key, *map(encode_part, sessions))
        return [_read_entry(session, value) for session, value in zip(sessions, found, strict=True)], epoch

    async def _read_surely(self, key: str, *command: Any) -> tuple[Any, Epoch]:
        """Run a read, and behind it read the epoch of the primary that has the key."""
        tag = await self._client.tag_of(key)
        found, epoch = map(demand, await self._pipeline.gather(command, self._ask_epoch(tag)))
        return found, _read_epoch(epoch)

    async def sessions(self, account: AccountId) -> tuple[list[Entry], Epoch]:
        """Return all entries of an account, followed by the epoch of the primary that has them."""
        key = self._keys.account(account)
        flat, epoch = await self._read_surely(key, "HGETALL", key)
        entries = (_read_entry(_decode_part(field), value) for field, value in _pairs(flat))
        return [entry for entry in entries if entry is not None], epoch

    # What a node has registered

    async def indexed(self, node: NodeId, cursor: int) -> tuple[int, list[Name]]:
        """Return a page of a node's index, and remove values from it that no node can have written."""
        then, found = await self._pipeline.submit("SSCAN", self._keys.index(node), cursor, "COUNT", _SCANNED)
        names = {each: unpack_name(each) for each in found}
        strange = [each for each, name in names.items() if pack_name(name).encode() != each]
        if strange:  # not written by a node, so none would ever remove it
            await self._write("SREM", self._keys.index(node), *strange)
        return int(then), [name for each, name in names.items() if each not in strange]

    async def drop(self, node: NodeId, names: Sequence[Name]) -> None:
        """Remove entries that still belong to the node, then their names from its index."""
        for result in await self._pipeline.gather(*(self._ask_drop(node, name) for name in names)):
            if not isinstance(result, CommandRefused):  # an unreadable entry is none, and has been reported
                demand(result)
        await self._write("SREM", self._keys.index(node), *map(pack_name, names))

    def _ask_drop(self, node: NodeId, name: Name) -> Command:
        keys = self._keys_of(name)
        return _DROP.call(keys, encode_part(name[1]), node, self._keep)

    async def forget(self, node: NodeId) -> None:
        """Remove a node's lease if it has expired; an index without entries does not exist in Redis."""
        await self._pipeline.submit(*_FORGET.call([self._keys.leases], node))

    # Connections

    async def place(self, sid: Sid, name: Name, seconds: float) -> None:
        """Store the session of a sid with an expiry."""
        await self._write("SET", self._keys.sid(sid), pack_name(name), "PX", round(seconds * 1000))

    async def locate(self, sid: Sid) -> tuple[Name | None, Epoch]:
        """Return the session of a sid, followed by the epoch of the primary that would have it."""
        key = self._keys.sid(sid)
        found, epoch = await self._read_surely(key, "GET", key)
        return None if found is None else unpack_name(found), epoch


def _hear_failure(future: Any) -> None:
    """Retrieve an exception that shows elsewhere as well, so that asyncio does not log it."""
    if not future.cancelled():
        future.exception()


def _pairs(flat: Any) -> list[tuple[bytes, bytes]]:
    """Return the fields and values of a hash, as redis-py or a script returns them."""
    if isinstance(flat, dict):
        return [*flat.items()]
    return [*zip(flat[::2], flat[1::2], strict=True)]


def _decode_part(field: bytes) -> SessionId:
    return unpack_name(b" " + field)[1]


def _pack_entry(entry: Entry) -> str:
    return f"{entry.node} {entry.generation} {entry.sid}"


def _read_entry(session: SessionId, value: bytes | None) -> Entry | None:
    """Decode an entry; None if there is none, or the value was not written by a node."""
    parts = value.decode("ascii", "replace").split(" ") if value else []
    if len(parts) != 3 or not parts[1].isdecimal() or len(parts[1]) > _DIGITS:
        return None
    return Entry(session, NodeId(parts[0]), int(parts[1]), Sid(parts[2]))


def _read_swapped(session: SessionId, result: Any) -> Swapped:
    status, current = result
    return Swapped(_OUTCOMES[int(status)], _read_entry(session, current))


def _read_restored_row(session: SessionId, row: Any) -> Swapped:
    status, current, replaced = row
    return Swapped(_OUTCOMES[int(status)], _read_entry(session, current), _read_entry(session, replaced))


def _read_epoch(result: Any) -> Epoch:
    id, age, _ = result
    return Epoch(id.decode("ascii", "replace"), int(age) / 1000)


def _read_leases(flat: Any, now: int) -> dict[NodeId, tuple[Lease, float]]:
    """Decode the leases of all nodes, skipping those that are malformed."""
    found: dict[NodeId, tuple[Lease, float]] = {}
    for field, value in _pairs(flat):
        ends, _, blob = value.partition(b" ")
        try:
            lease = msgspec.msgpack.decode(blob, type=Lease)
            found[NodeId(field.decode("ascii"))] = lease, (int(ends) - now) / 1000
        except (ValueError, OverflowError, RecursionError):
            continue
    return found


def _read_keys(flat: Any) -> list[bytes]:
    """Decode the cluster keys, oldest first, skipping those that are malformed."""
    keys: list[tuple[int, bytes]] = []
    for field, added in _pairs(flat):
        try:
            key = bytes.fromhex(field.decode("ascii"))
        except ValueError:
            continue
        if len(key) == 32 and added.isdigit() and len(added) <= _DIGITS:
            keys.append((int(added), key))
    return [key for _, key in sorted(keys)]

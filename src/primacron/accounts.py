"""A mapping by account and session id."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from primacron.ids import AccountId, SessionId


class Identified(Protocol):
    """Anything that belongs to one session."""

    @property
    def id(self) -> SessionId:
        """The session's id."""


T = TypeVar("T", bound=Identified)


class AccountMap(Generic[T]):
    """
    Maps account and session id to one value.

    Most accounts have a single session, so a lone value is stored bare and only several
    of them take a dict: this is per-connection memory.
    """

    __slots__ = ("_accounts", "_size")

    def __init__(self) -> None:
        self._accounts: dict[AccountId, T | dict[SessionId, T]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[T]:
        for found in self._accounts.values():
            if isinstance(found, dict):
                yield from found.values()
            else:
                yield found

    def get(self, account: AccountId, session: SessionId) -> T | None:
        """Return the value of a session, None if there is none."""
        found = self._accounts.get(account)
        if found is None or isinstance(found, dict):
            return found.get(session) if found else None
        return found if found.id == session else None

    def of(self, account: AccountId) -> list[T]:
        """Return the values of all sessions of an account."""
        found = self._accounts.get(account)
        if found is None:
            return []
        return list(found.values()) if isinstance(found, dict) else [found]

    def add(self, account: AccountId, thing: T) -> T | None:
        """Store a value; return the one that it replaces, if any."""
        found = self._accounts.get(account)
        if isinstance(found, dict):
            earlier = found.get(thing.id)
            found[thing.id] = thing
        elif found is None or found.id == thing.id:
            earlier = found
            self._accounts[account] = thing
        else:
            earlier = None
            self._accounts[account] = {found.id: found, thing.id: thing}
        self._size += earlier is None
        return earlier

    def remove(self, account: AccountId, thing: T) -> bool:
        """Remove a value; does nothing if another has replaced it."""
        found = self._accounts.get(account)
        if found is thing:
            del self._accounts[account]
        elif isinstance(found, dict) and found.get(thing.id) is thing:
            del found[thing.id]
            if not found:
                del self._accounts[account]
        else:
            return False
        self._size -= 1
        return True

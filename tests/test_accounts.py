"""The mapping of accounts and session ids."""

from __future__ import annotations

from primacron.accounts import AccountMap
from primacron.ids import AccountId, SessionId


class Thing:
    """Something with the id of a session."""

    def __init__(self, id: str) -> None:
        self.id = SessionId(id)


def test_an_account_map_keeps_one_or_many_and_counts_them() -> None:
    things: AccountMap[Thing] = AccountMap()
    ann, bob = AccountId("ann"), AccountId("bob")
    one, two, other = Thing("one"), Thing("two"), Thing("one")
    for account, thing in ((ann, one), (ann, two), (bob, one)):
        assert things.add(account, thing) is None
    assert (len(things), list(things), things.of(ann)) == (3, [one, two, one], [one, two])
    assert things.get(ann, SessionId("two")) is two
    assert things.get(bob, SessionId("two")) is None
    assert things.add(ann, other) is one
    assert not things.remove(ann, one)
    assert things.add(bob, other) is one
    assert things.add(bob, one) is other
    assert things.remove(ann, other)
    assert things.remove(ann, two)
    assert things.remove(bob, one)
    assert not things.remove(bob, one)
    assert (len(things), list(things), things.of(ann)) == (0, [], [])
    assert things.get(ann, SessionId("one")) is None

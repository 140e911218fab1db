"""How audiences and acts travel between nodes."""

from __future__ import annotations

import msgspec
import pytest

from primacron.content import Event, Message, Mirrored
from primacron.dialects.encoding import ENCODING
from primacron.ids import AccountId, SessionId
from primacron.routing.acts import Act, Deliver, Disconnect, unpack_act
from primacron.routing.audience import EVERYONE, Account, Audience, pack_audience, unpack_audience
from primacron.routing.options import SendOptions
from primacron.sessions.memberships import Memberships
from tests.sessions.line import Bench

ANN = (AccountId("ann"), SessionId("phone"))
BOB = (AccountId("bob"), SessionId("phone"))

AUDIENCES: list[Audience] = [EVERYONE, Account(AccountId("ann")), Account(AccountId("é"))]
ACTS: list[Act] = [
    Deliver(Event("bid", (1, "two", {"three": [None]}))),
    Deliver(Message({"any": "JSON"}), SendOptions(volatile=True)),
    Deliver(Mirrored("bid", (1,), "ann", "phone", "in"), SendOptions(key="k", left_out=frozenset({ANN, BOB}))),
    Disconnect("sold out"),
]


@pytest.mark.parametrize("audience", AUDIENCES)
def test_an_audience_arrives_as_it_was(audience: Audience) -> None:
    assert unpack_audience(pack_audience(audience)) == audience


@pytest.mark.parametrize("act", ACTS)
def test_an_act_arrives_as_it_was(act: Act) -> None:
    arrived = unpack_act(act.pack(ENCODING))
    assert arrived == act
    assert type(arrived) is type(act)


@pytest.mark.parametrize("packed", [b"", b"\x90", b"\xc1", msgspec.msgpack.encode(["nobody"]), b"\x91" * 2_000])
def test_what_a_node_does_not_know_is_a_value_error(packed: bytes) -> None:
    with pytest.raises(ValueError, match=r"^audience: "):
        unpack_audience(msgspec.Raw(packed))
    with pytest.raises(ValueError, match=r"^act: "):
        unpack_act(packed)


async def test_an_account_is_its_sessions_and_everyone_is_all() -> None:
    bench = Bench()
    ann, bob = (bench.hub.session_of(bench.connect(name)[0]) for name in ("ann", "bob"))
    account = Account(AccountId("ann"))
    assert (account.matches(ann), account.matches(bob)) == (True, False)
    assert (EVERYONE.matches(ann), EVERYONE.matches(bob)) == (True, True)
    assert account.sessions(bench.hub) == [ann]
    assert EVERYONE.sessions(bench.hub) == [ann, bob]
    bench.close()


async def test_only_what_is_delivered_can_leave_somebody_out() -> None:
    bench = Bench()
    ann, bob = (bench.hub.session_of(bench.connect(name)[0]) for name in ("ann", "bob"))
    left_out = Deliver(Event("bid", ()), SendOptions(left_out=frozenset({(ann.account, ann.id)})))
    assert left_out.spares(ann)
    assert not left_out.spares(bob)
    assert not Disconnect("sold out").spares(ann)
    bob.demand(Memberships).channels["vip"] = None
    assert Deliver(Event("bid", ()), SendOptions(left_out_channels=frozenset({"vip"}))).spares(bob)
    bench.close()


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), 2**64])
def test_what_cannot_travel_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"cannot be sent|not for other servers"):
        Deliver(Event("bid", (value,))).pack(ENCODING)

"""A send to one session, put together from its parts: the same bytes as of the whole item."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primacron.cluster.envelope import decode_item, encode_item
from primacron.cluster.items import NO_ID, ToSession
from primacron.cluster.locations import Locations
from primacron.cluster.sends import PLAIN_END, SendEncoder, encode_address, encode_end
from primacron.content import Event
from primacron.entries import Entry
from primacron.ids import AccountId, NodeId, SessionId, Sid

NAME = (AccountId("ann"), SessionId("one"))
NODE = NodeId("node")

texts = st.text(max_size=300)


@given(
    id=st.just(NO_ID) | st.integers(0, 2**63 - 1),
    origin=texts,
    account=texts,
    session=texts,
    generation=st.integers(0, 2**63 - 1),
    text=texts,
    volatile=st.booleans(),
    key=st.none() | texts,
)
def test_the_parts_of_a_send_make_the_item(
    id: int, origin: str, account: str, session: str, generation: int, text: str, volatile: bool, key: str | None
) -> None:
    name = (AccountId(account), SessionId(session))
    content = Event("news", (text,)).pack()
    item = ToSession(id, NodeId(origin), *name, generation, 0, msgspec.Raw(content), volatile, key or "")
    end = encode_end(volatile=volatile, key=key)
    encoded = SendEncoder(NodeId(origin)).encode(id, encode_address(name, generation), content, end)
    assert encoded == encode_item(item)
    assert decode_item(encoded) == item


def test_the_end_of_a_plain_send_is_encoded_once() -> None:
    assert encode_end(volatile=False, key=None) == PLAIN_END


@pytest.mark.parametrize("known", [True, False])
def test_an_address_is_that_of_the_entry_whatever_is_believed(known: bool) -> None:
    locations = Locations()
    entry = Entry(NAME[1], NODE, 7, Sid("sid"))
    later = Entry(NAME[1], NODE, 8, Sid("other"))
    if known:
        locations.put(NAME, entry, 0.0)
    assert locations.address(NAME, entry) == encode_address(NAME, 7)
    assert locations.address(NAME, later) == encode_address(NAME, 8)

"""The names of everything in Redis: none is taken for another one."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primacron.cluster.redis.keys import Keys, encode_part, pack_name, unpack_name
from primacron.entries import Name
from primacron.ids import AccountId, NodeId, SessionId, Sid, is_usable_id, new_node_id

#: Names as applications and attackers choose them.
TEXTS = st.text(max_size=30) | st.text(alphabet=":{}*?[]%/. ab\\'\"\n", max_size=12)
IDS = TEXTS.filter(is_usable_id)
NAMES = st.tuples(TEXTS.map(AccountId), TEXTS.map(SessionId))
ANY = st.text(st.characters(), max_size=20)  # lone surrogates, too
PLAIN = re.compile(r"[A-Za-z0-9_.%-]*")

NASTY = [
    "a:b",
    "a%3Ab",
    "{a}",
    "a}",
    "{",
    "nodes",
    "{nodes}",
    "*",
    "a b",
    "a  b",
    "%",
    "%25",
    "é",
    "e\u0301",
    "\u0660",
    "",
    "..",
    "../x",
]


@given(ANY, ANY)
def test_different_texts_are_different_parts(one: str, two: str) -> None:
    assert (encode_part(one) == encode_part(two)) == (one == two)


@given(ANY)
def test_a_part_has_nothing_that_means_something_in_a_name(text: str) -> None:
    assert PLAIN.fullmatch(encode_part(text))


@given(st.text(alphabet="abcXYZ019_.-", max_size=20))
def test_letters_digits_and_a_few_more_stay_as_they_are(text: str) -> None:
    assert encode_part(text) == text


@pytest.mark.parametrize(
    ("text", "part"), [("a:b", "a%3Ab"), ("100%", "100%25"), ("a b", "a%20b"), ("é", "%C3%A9"), ("😀", "%F0%9F%98%80")]
)
def test_all_else_is_percent_encoded(text: str, part: str) -> None:
    assert encode_part(text) == part


# Names of sessions as one text


@given(NAMES)
def test_a_name_is_read_as_it_was_packed(name: Name) -> None:
    assert unpack_name(pack_name(name).encode("ascii")) == name


@given(IDS, IDS)
def test_what_may_name_accounts_and_sessions_is_read_as_it_was_packed(account: str, session: str) -> None:
    name = AccountId(account), SessionId(session)
    assert unpack_name(pack_name(name).encode("ascii")) == name


@given(st.tuples(ANY, ANY), st.tuples(ANY, ANY))
def test_no_two_names_are_packed_alike(one: tuple[str, str], two: tuple[str, str]) -> None:
    first, second = (pack_name((AccountId(account), SessionId(session))) for account, session in (one, two))
    assert (first == second) == (one == two)


@given(st.binary(max_size=40))
def test_any_bytes_are_read_as_some_name(data: bytes) -> None:
    account, session = unpack_name(data)
    assert isinstance(account, str)
    assert isinstance(session, str)


# Names of keys and channels


def all_names(keys: Keys, texts: list[str], nodes: list[NodeId], sids: list[Sid]) -> list[tuple[object, str]]:
    """Return every name that is made of these, each with what it is the name of."""
    accounts = [(("account", text), keys.account(AccountId(text))) for text in texts]
    sets = [
        (("set", kind, account, session), keys.set(kind, (AccountId(account), SessionId(session))))
        for kind in ("one", "two")
        for account in texts
        for session in texts
    ]
    by_node: list[tuple[str, Callable[[NodeId], str]]] = [
        ("index", keys.index),
        ("node", keys.node),
        ("probe", keys.probe),
    ]
    of_nodes = [((kind, node), name(node)) for kind, name in by_node for node in nodes]
    of_sids = [(("sid", sid), keys.sid(sid)) for sid in sids]
    epochs = [(("epoch", tag), keys.epoch(tag)) for tag in ("0", "16383")]
    fixed: list[tuple[object, str]] = [("leases", keys.leases), ("keys", keys.keys), ("all", keys.all)]
    return [*fixed, *accounts, *sets, *of_nodes, *of_sids, *epochs]


@given(st.lists(TEXTS, unique=True, max_size=4), st.lists(TEXTS, unique=True, min_size=1, max_size=3))
def test_no_name_is_that_of_something_else(texts: list[str], namespaces: list[str]) -> None:
    nodes = [NodeId("node-1"), NodeId("all"), NodeId("nodes"), new_node_id()]
    sids = [Sid("all"), Sid("nodes"), Sid("sid-0_1")]
    texts = [*dict.fromkeys([*texts, *NASTY])]
    names = [
        ((namespace, what), name)
        for namespace in namespaces
        for what, name in all_names(Keys(namespace), texts, nodes, sids)
    ]
    assert len({name for _, name in names}) == len({what for what, _ in names}) == len(names)


@given(NAMES)
def test_what_a_script_touches_together_is_in_one_slot(name: Name) -> None:
    keys = Keys("shop:{a}")
    for one in (keys.account(name[0]), keys.set("x", name), keys.leases, keys.keys, keys.all, keys.probe(NodeId("n"))):
        assert one.count("{") == one.count("}") == 1
    assert tag_of(keys.account(name[0])) == tag_of(keys.set("x", name)) == encode_part(name[0])
    assert tag_of(keys.leases) == tag_of(keys.keys) == "nodes"
    assert tag_of(keys.all) == tag_of(keys.probe(NodeId("n"))) == "all"


def tag_of(name: str) -> str:
    """Return the part of a name that a Redis Cluster looks at."""
    return name.partition("{")[2].partition("}")[0]


def test_every_name_begins_with_the_namespace() -> None:
    for _, name in all_names(Keys("shop"), ["ann"], [NodeId("n")], [Sid("s")]):
        assert name.startswith("shop:")
    assert Keys("my shop:*").leases.startswith("my%20shop%3A%2A:")

"""
Any interleaving of appends, deliveries, reads, losses, failovers, and of clients that join, leave, move and return.

Whatever happens, each client gets the messages of an epoch in order and once, each that it does not get is told as
lost, none is told as lost that it gets, and in the end all are where the list is. The clients check that themselves.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from primacron.channels import stream
from primacron.channels.stream import State
from primacron.positions import Position
from tests.channels.world import Client, Member, Node, World

#: How much may wait, so that it is often too much.
FEW = 4
ANY = st.integers(0, 5)


class Calm(RuleBasedStateMachine):
    """Up to three nodes of one list, where nothing is lost that is on its way."""

    #: Whether some messages have to be read from the list, where they may not be any more.
    has_large = False
    world: World

    def __init__(self) -> None:
        super().__init__()
        self.away: list[Client] = []

    @initialize(
        kept=st.sampled_from([1, 1, 2, 3, 5, 20]), nodes=st.integers(1, 3), page_items=st.sampled_from([1, 2, 9])
    )
    def begin(self, kept: int, nodes: int, page_items: int) -> None:
        self.world = World(kept, nodes, page_items)
        for node in self.world.nodes:
            node.hear()

    def node(self, index: int) -> Node:
        return self.world.nodes[index % len(self.world.nodes)]

    # Messages, and what is on its way

    @rule(index=ANY, is_answered=st.booleans(), is_large=st.booleans(), count=st.integers(1, 4))
    def append(self, index: int, is_answered: bool, is_large: bool, count: int) -> None:
        for _ in range(count):
            self.world.append(self.node(index) if is_answered else None, is_large=is_large and self.has_large)

    @rule(index=ANY, count=st.integers(1, 4))
    def take_messages(self, index: int, count: int) -> None:
        node = self.node(index)
        for _ in range(min(count, len(node.topic))):
            node.take_message()

    @rule(index=ANY)
    def take_answer(self, index: int) -> None:
        if self.node(index).answers:
            self.node(index).take_answer()

    # Reading

    @rule(index=ANY)
    def read(self, index: int) -> None:
        readings = [each for each in self.world.readings() if each.page is None]
        if readings:
            readings[index % len(readings)].page = self.world.registry.read(readings[index % len(readings)].wish)

    @rule(index=ANY)
    def take_page(self, index: int) -> None:
        waiting: list[Node | Member] = [*self.world.nodes, *self.world.members]
        takers = [each for each in waiting if each.reading is not None and each.reading.page is not None]
        if takers:
            takers[index % len(takers)].take_page()

    @rule(index=ANY)
    def elapse(self, index: int) -> None:
        """Let the time pass in which whatever is on its way arrives."""
        node = self.node(index)
        if node.is_waiting and not node.topic:
            node.elapse()

    @rule(index=ANY)
    def compare(self, index: int) -> None:
        node = self.node(index)
        node.act(node.stream.compare())

    # Clients

    @rule(index=ANY, newest=st.sampled_from([0, 0, 1, 2]))
    def join(self, index: int, newest: int) -> None:
        if len(self.world.members) < 6:
            self.node(index).join(Client(self.world.registry), newest=newest)

    @rule(index=ANY)
    def leave(self, index: int) -> None:
        if self.node(index).members:
            self.away.append(self.node(index).members.pop(0).client)
            self.away[-1].was_away = True

    @rule(index=ANY, newest=st.sampled_from([0, 1]))
    def come_back(self, index: int, newest: int) -> None:
        if self.away:
            client = self.away.pop(0)
            self.node(index).join(client, client.position, newest)

    @rule(source=ANY, destination=ANY)
    def move(self, source: int, destination: int) -> None:
        movable = [each for each in self.node(source).members if each.replay is None or not each.client.newest]
        if not movable:
            return
        member = movable[0]
        position = member.position()
        self.node(source).members.remove(member)
        member.client.was_away = True
        if position is not None and member.client.is_honest:
            assert position == member.client.position or member.client.gap_ahead
        self.node(destination).join(member.client, position)

    # What holds

    @invariant()
    def nothing_grows(self) -> None:
        for node in self.world.nodes if hasattr(self, "world") else ():
            assert node.stream.waiting[0] <= stream.MAX_WAITING
            for member in node.members:
                assert member.replay is None or member.replay.waiting[0] <= stream.MAX_WAITING

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        for node in self.world.nodes:
            if not node.is_heard:
                node.hear()
        self.world.settle()
        self.world.append()
        self.world.settle()
        numbers = self.world.registry.numbers
        assert numbers is not None
        for node in self.world.nodes:
            assert node.stream.state is State.CURRENT
            assert node.stream.position == Position(numbers.epoch, numbers.top)
            assert node.stream.waiting == (0, 0)
            for member in node.members:
                assert member.replay is None
                assert member.client.position == node.stream.position or not member.client.is_honest
                self.check(member.client)

    def check(self, client: Client) -> None:
        """Check a client at the end: what was published while it was there it got."""
        assert client.was_away or not client.gaps


class Stormy(Calm):
    """The same with faults, and clients that lie."""

    has_large = True

    @rule(index=ANY)
    def fail(self, index: int) -> None:
        if self.node(index).reading is not None:
            self.node(index).fail()

    @rule(index=ANY)
    def elapse_early(self, index: int) -> None:
        if self.node(index).is_waiting:
            self.node(index).elapse()

    @rule(index=ANY, arrived=st.integers(0, 3))
    def lose_or_regain_the_subscription(self, index: int, arrived: int) -> None:
        node = self.node(index)
        if node.is_heard:
            node.lose(arrived)
        else:
            node.hear()

    @rule(lost=st.integers(0, 8))
    def fail_over(self, lost: int) -> None:
        self.world.registry.fail_over(lost)

    @rule()
    def flush(self) -> None:
        self.world.registry.flush()

    @rule()
    def clear(self) -> None:
        self.world.registry.clear()

    @rule(index=ANY, epochs=st.integers(0, 5), offset=st.integers(0, 30))
    def join_with_a_position_that_is_made_up(self, index: int, epochs: int, offset: int) -> None:
        client = Client(self.world.registry)
        client.position = Position(f"e{epochs}", offset)
        client.is_honest = False
        self.node(index).join(client, client.position)

    def check(self, client: Client) -> None:
        """A gap is nothing unusual here, and checked by the client."""


def search(machine: type[Calm], examples: int, steps: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_nothing_is_lost_while_nothing_breaks() -> None:
    search(Calm, 100, 60)


def test_every_client_gets_each_message_once_or_hears_that_it_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("stream", "replay"):
        monkeypatch.setattr(f"primacron.channels.{module}.MAX_WAITING", FEW)
    search(Stormy, 200, 60)

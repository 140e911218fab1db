"""Whatever is lost, cut or killed: in the end all nodes and clients agree who is in a channel, and no move is heard."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.channels.presence_world import CHANNELS, Node, World, name

nodes = st.integers(0, 2)
NUMBERS = range(3)
who = st.sampled_from(NUMBERS)
any_of_many = st.integers(0, 100)
channels = st.sampled_from([CHANNELS[0], *CHANNELS])
infos = st.sampled_from([b"\xc0", b"\x01", b"\x02"])


class PresenceMachine(RuleBasedStateMachine):
    limit = 1_000
    is_deadly = True

    @initialize()
    def begin(self) -> None:
        self.world = World(self.limit)
        for _ in range(3):
            self.world.start()
        self.world.renew()
        #: Sessions that have left one node, and are to appear at another.
        self.moving: list[tuple[Node, str, int, bytes]] = []

    def node(self, index: int) -> Node:
        living = self.world.living
        return living[index % len(living)]

    # Members

    @rule(index=nodes, channel=channels, number=who, info=infos, hears=st.booleans())
    def join(self, index: int, channel: str, number: int, info: bytes, hears: bool) -> None:
        if not any(number == each for _, _, each, _ in self.moving):
            self._join(self.node(index), channel, number, info, hears=hears)

    def _join(self, node: Node, channel: str, number: int, info: bytes, *, hears: bool) -> None:
        node.enter(channel, hears=hears)
        node.presence.join(channel, name(number), info, self.world.now)
        node.members[channel][name(number)] = info

    def pick(self, index: int) -> tuple[Node, str, int] | None:
        """Return a member of a channel, and its node."""
        members = [
            (node, channel, number)
            for node in self.world.living
            for channel, names in node.members.items()
            for number in NUMBERS
            if name(number) in names
        ]
        return members[index % len(members)] if members else None

    @rule(index=any_of_many, then=st.sampled_from(["", "flush", "close", "fail", "vanish"]))
    def leave(self, index: int, then: str) -> None:
        found = self.pick(index)
        if found is not None:
            node, channel, number = found
            self._leave(node, channel, number, moved=False)
            self.world.may_leave[channel, name(number)] += 1
            self._go_on(node, channel, then)

    def _go_on(self, node: Node, channel: str, then: str) -> None:
        """
        Tell of a change.

        It may fail; or go to a primary that was replaced: then nobody hears it, and subscriptions there are lost.
        """
        world = self.world
        if then in ("fail", "vanish"):
            world.trouble()
            world.fails, world.vanishes = then == "fail", then == "vanish"
        if then:
            node.flush()
            world.fails = world.vanishes = False
        if then == "vanish":
            node.cut()
        if then == "close":
            node.close(channel)

    def _leave(self, node: Node, channel: str, number: int, *, moved: bool) -> None:
        del node.members[channel][name(number)]
        node.presence.leave(channel, name(number), self.world.now, moved=moved)

    @rule(index=any_of_many, to=nodes, leaves_first=st.booleans(), hears=st.booleans())
    def move(self, index: int, to: int, leaves_first: bool, hears: bool) -> None:
        """Move a session: what its nodes say of it is under way in any order."""
        found, target = self.pick(index), self.node(to)
        if found is None or found[0] is target or name(found[2]) in target.members[found[1]]:
            return
        source, channel, number = found
        info = source.members[channel][name(number)]
        if leaves_first:
            self._leave(source, channel, number, moved=True)
            self.moving.append((target, channel, number, info))
        else:
            self._join(target, channel, number, info, hears=hears)
            self._leave(source, channel, number, moved=True)

    @rule()
    def finish_moves(self) -> None:
        moving, self.moving = self.moving, []
        for target, channel, number, info in moving:
            if target.lives:
                self._join(target, channel, number, info, hears=True)

    @rule(index=nodes, channel=channels, then=st.sampled_from(["flush", "close", "fail", "vanish"]))
    def flush(self, index: int, channel: str, then: str) -> None:
        self._go_on(self.node(index), channel, then)

    # The network

    @rule(index=any_of_many, count=st.integers(1, 3), topics=st.booleans())
    def deliver(self, index: int, count: int, topics: bool) -> None:
        world = self.world
        pairs = [pair for pair, queue in (world.topics if topics else world.bus).items() if queue]
        for pair in pairs[index % len(pairs) :][:1] if pairs else ():
            for _ in range(min(count, len((world.topics if topics else world.bus)[pair]))):
                (world.deliver_topic if topics else world.deliver_bus)(pair)

    @rule()
    def deliver_all(self) -> None:
        self.world.deliver_all()

    @rule(index=nodes)
    def outcome(self, index: int) -> None:
        self.world.settle_outcome()
        self.node(index).hear_new()

    @rule(index=any_of_many)
    def lose_bus(self, index: int) -> None:
        pairs = [pair for pair, queue in self.world.bus.items() if queue]
        if pairs:
            self.world.trouble()
            self.world.bus[pairs[index % len(pairs)]].popleft()

    @rule(index=nodes)
    def cut(self, index: int) -> None:
        """Lose the subscriptions of a node, or have them again."""
        node = self.node(index)
        if node.lost:
            node.rebuild()
        else:
            self.world.trouble()
            node.cut()

    @rule(index=nodes, what=st.sampled_from(["kill", "bury", "lapse", "renew", "renew"]))
    def lease(self, index: int, what: str) -> None:
        if what == "renew":
            self.world.renew()
        elif what == "bury":
            self.world.bury()
        elif self.is_deadly:
            (self.world.kill if what == "kill" else self.world.lapse)(self.node(index))
            if what == "kill":
                self.world.start()

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 6.0]))
    def pass_time(self, seconds: float) -> None:
        if seconds > 1.0:
            self.finish_moves()
        self.world.pass_time(seconds)

    @rule()
    def calm(self) -> None:
        self.finish_moves()
        self.world.calm()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.calm()


@pytest.mark.parametrize("limit", [1_000, 2])
@pytest.mark.parametrize("is_deadly", [True, False])
def test_in_the_end_all_agree_who_is_there(limit: int, is_deadly: bool) -> None:
    run_state_machine_as_test(
        type("Machine", (PresenceMachine,), {"limit": limit, "is_deadly": is_deadly}),
        settings=settings(
            max_examples=80,
            stateful_step_count=80,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

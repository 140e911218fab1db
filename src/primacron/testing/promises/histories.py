"""The promises about channels with a history: every member has each message in order, once, or was told of the gap."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from primacron.testing.promises.records import Joined, Left, Mark, Missed, Took
from primacron.testing.promises.sends import TRANSIT
from primacron.testing.promises.story import SLACK, InChannel, Life, Story


class _Place(NamedTuple):
    """Where a message is in a history."""

    channel: str
    epoch: str
    offset: int


@dataclass
class _Span:
    """
    What one client received of one epoch of a channel, perhaps on several connections.

    It was to receive everything above ``after``.
    """

    who: str
    channel: str
    epoch: str
    after: int
    #: When it was told of the epoch.
    since: float
    taken: dict[int, Took] = field(default_factory=dict)
    gaps: list[Missed] = field(default_factory=list)
    #: Whether its client was still in the channel, in this epoch, at the end of the records.
    is_open: bool = False

    def __str__(self) -> str:
        return f"{self.who} in {self.channel}"

    @property
    def last(self) -> int:
        """The last offset that was received, or the one to begin with."""
        return max(self.taken, default=self.after)

    def is_told(self, offset: int) -> bool:
        """Tell whether the client was told that it lost a message."""
        return any(gap.begin <= offset <= (gap.end or 0) for gap in self.gaps)


class _Walk:
    """The way of one client through one channel."""

    def __init__(self, story: Story, who: str, channel: str, is_disturbed: bool) -> None:
        self.spans: list[_Span] = []
        self.found: list[str] = []
        self._story = story
        self._who = who
        self._channel = channel
        #: Whether data was lost before the end, so that anything may be missing.
        self._is_disturbed = is_disturbed
        self._had: dict[Mark, Took] = {}
        #: What comes up to here is old: the client has asked for the newest messages.
        self._newest = 0
        #: The answer that has to be followed by a gap at once.
        self._owes: Joined | None = None

    def step(self, record: InChannel) -> None:
        """Take what happened next."""
        if self._owes is not None and not isinstance(record, Missed):
            self._complain(f"had not recovered, but was not told of a gap at {self._when(self._owes)}")
        self._owes = None
        match record:
            case Joined():
                self._join(record)
            case Took():
                self._take(record)
            case Missed():
                self._miss(record)
            case Left():
                self._close()

    def lose(self) -> None:
        """Take that the connection has ended."""
        self._owes = None
        self._close()

    def _complain(self, text: str) -> None:
        self.found.append(f"{self._who} in {self._channel} {text}")

    def _when(self, record: InChannel) -> str:
        return self._story.when(record.at)

    def _close(self) -> None:
        if self.spans:
            self.spans[-1].is_open = False

    def _begin(self, record: InChannel, epoch: str, after: int) -> None:
        self._close()
        self.spans.append(_Span(self._who, self._channel, epoch, after, record.at, is_open=True))

    def _join(self, answer: Joined) -> None:
        if not answer.epoch:
            return
        if answer.since is None:
            self._had, self._newest = {}, answer.offset
            self._begin(answer, answer.epoch, answer.offset)
            return
        epoch, offset = answer.since
        last = self.spans[-1] if self.spans else None
        if last is not None and last.epoch == epoch and last.last <= offset:
            last.is_open = True
        else:
            self._had = {}
            self._begin(answer, epoch, offset)
        self._owes = answer if answer.recovered is False else None

    def _take(self, took: Took) -> None:
        before = self._had.get(took.mark)
        self._had[took.mark] = took
        if before is not None:
            self._complain(f"received {took.mark} twice, at {self._when(before)} and at {self._when(took)}")
            return
        if not self.spans or not self.spans[-1].is_open:
            self._complain(f"received {took.mark} at {self._when(took)}, but was not in it")
            return
        span = self.spans[-1]
        if not span.taken and took.offset <= self._newest:
            return
        self._newest = 0
        if took.offset <= span.last:
            self._complain(f"received offset {took.offset} ({took.mark}) behind {span.last} at {self._when(took)}")
        span.taken[took.offset] = took

    def _miss(self, gap: Missed) -> None:
        if gap.end is not None:
            self._miss_exactly(gap)
            return
        if not self._is_disturbed:
            self._complain(f"was told at {self._when(gap)} that something may be lost, though nothing can be")
        self._newest = 0
        self._begin(gap, gap.epoch, gap.begin - 1)

    def _miss_exactly(self, gap: Missed) -> None:
        if gap.end is not None and gap.end < gap.begin:
            self._complain(f"was told of a gap from {gap.begin} to {gap.end} at {self._when(gap)}")
        if not self.spans or self.spans[-1].epoch != gap.epoch:
            self._complain(f"was told at {self._when(gap)} of a gap in epoch {gap.epoch}, in which it was not")
            return
        self.spans[-1].gaps.append(gap)


class Histories:
    """The histories of all channels, as far as anybody knows them."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self.spans: list[_Span] = []
        self.found: list[str] = []
        #: The messages of each epoch of a channel, and when somebody first knew of each.
        self._log: dict[tuple[str, str], dict[int, tuple[float, Mark]]] = defaultdict(dict)
        self._places: dict[Mark, _Place] = {}
        #: The epoch of a channel that was the last one to be seen first.
        self._current: dict[str, str] = {}
        for name, lives in story.by_name.items():
            self._walk("/".join(name), lives)
        self._note_all()

    def _walk(self, who: str, lives: list[Life]) -> None:
        for channel in dict.fromkeys(channel for life in lives for channel in life.channels):
            walk = _Walk(self._story, who, channel, bool(self._story.emptied))
            for life in sorted(lives, key=lambda life: life.opened or 0.0):
                for record in life.channels[channel]:
                    walk.step(record)
                if life.closed is not None:
                    walk.lose()
            self.spans += walk.spans
            self.found += walk.found

    def _note_all(self) -> None:
        seen: list[tuple[float, Mark, _Place]] = []
        for span in self.spans:
            seen += [(took.at, took.mark, _Place(span.channel, span.epoch, o)) for o, took in span.taken.items()]
        for mark, reached in self._story.reached.items():
            if reached.epoch:
                seen.append((reached.at, mark, _Place(mark.channel, reached.epoch, reached.offset)))
        for at, mark, place in sorted(seen):
            self._note(at, mark, place)

    def _note(self, at: float, mark: Mark, place: _Place) -> None:
        channel, epoch, offset = place
        log = self._log[channel, epoch]
        if not log:
            self._current[channel] = epoch
        known = self._places.setdefault(mark, place)
        if known != place:
            self.found.append(f"{mark} is at {known.epoch}:{known.offset} and at {epoch}:{offset}")
        _, other = log.setdefault(offset, (at, mark))
        if other != mark:
            self.found.append(f"{epoch}:{offset} of {channel} is {other} and {mark}")

    # What clients have of it

    def check(self) -> Iterator[str]:
        """Find everything that is wrong."""
        yield from self.found
        yield from self._find_lies()
        for span in self.spans:
            yield from self._find_losses(span)
            yield from self._find_false_gaps(span)

    def _find_losses(self, span: _Span) -> Iterator[str]:
        until = self._story.end - TRANSIT
        last = span.last
        for offset, (at, mark) in sorted(self._log[span.channel, span.epoch].items()):
            is_due = span.after < offset <= last or (span.is_open and offset > last and at < until)
            if is_due and offset not in span.taken and not span.is_told(offset):
                yield f"{span} never received {mark}, {span.epoch}:{offset}, known at {self._story.when(at)}"
        current = self._current.get(span.channel, span.epoch)
        if span.is_open and span.epoch != current:
            at, mark = min(self._log[span.channel, current].values())
            is_ahead = at < span.since and not self._log[span.channel, span.epoch]  # nobody has sent anything there yet
            if at < until and not is_ahead:
                yield f"{span} is still in epoch {span.epoch}, though {mark} began {current} at {self._story.when(at)}"

    def _find_false_gaps(self, span: _Span) -> Iterator[str]:
        kept = self._story.limits.history
        for gap in span.gaps:
            text = f"{span} was told at {self._story.when(gap.at)} that {gap.begin} to {gap.end} are lost"
            for offset, took in span.taken.items():
                if gap.begin <= offset <= (gap.end or 0):
                    yield f"{text}, but received {offset} at {self._story.when(took.at)}"
            log = self._log[span.channel, span.epoch]
            top = max((offset for offset, (at, _) in log.items() if at <= gap.at + SLACK), default=0)
            if kept and not self._story.emptied and (gap.end or 0) > top - kept:
                yield f"{text}, though {kept} up to {top} were kept"

    # What publishers were told

    def _find_lies(self) -> Iterator[str]:
        for mark, reached in self._story.reached.items():
            place = self._places.get(mark)
            if mark.channel and place is not None and reached.certain and not reached.epoch:
                yield (
                    f"{mark} was certainly not kept at {self._story.when(reached.at)}, "
                    f"but is at {place.epoch}:{place.offset}"
                )


def find_broken_histories(story: Story) -> Iterator[str]:
    """Find messages of channels with a history that are lost, doubled, in disorder or said to be lost; and lies."""
    yield from Histories(story).check()

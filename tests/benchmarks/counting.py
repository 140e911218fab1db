"""Counts the instructions that the interpreter executes for a piece of work."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, Final, TypeAlias

Work: TypeAlias = Callable[[], None]

ROUNDS: Final = 50
#: The least of several counts is taken: once a second, a field with the date is made anew.
TIMES: Final = 3


def count(work: Work) -> float:
    """Return how many instructions a round of the work takes."""
    for _ in range(3):
        work()
    return min(count_rounds(work) for _ in range(TIMES)) / ROUNDS


if sys.version_info >= (3, 12):

    def count_rounds(work: Work) -> int:
        """Return how many instructions some rounds of the work take."""
        seen = 0

        def on_instruction(code: CodeType, offset: int) -> None:
            nonlocal seen
            seen += 1

        monitoring = sys.monitoring
        tool, event = monitoring.PROFILER_ID, monitoring.events.INSTRUCTION
        monitoring.use_tool_id(tool, "guard")
        monitoring.register_callback(tool, event, on_instruction)
        monitoring.set_events(tool, event)
        try:
            for _ in range(ROUNDS):
                work()
        finally:
            monitoring.set_events(tool, 0)
            monitoring.free_tool_id(tool)
        return seen

else:

    def count_rounds(work: Work) -> int:
        """Return how many instructions some rounds of the work take."""
        seen = 0

        def trace(frame: FrameType, event: str, arg: object) -> Any:
            nonlocal seen
            frame.f_trace_opcodes = True
            frame.f_trace_lines = False
            if event == "opcode":
                seen += 1
            return trace

        sys.settrace(trace)
        try:
            for _ in range(ROUNDS):
                work()
        finally:
            sys.settrace(None)
        return seen

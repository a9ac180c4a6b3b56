"""Two event logs beside each other: where they part, whatever the time was.

Their events are compared as sequences by Myers' algorithm ("An O(ND) Difference Algorithm and Its
Variations", 1986), which costs little where there are few differences, and is given up where there are too
many.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from msgspec import Struct

from vmlab.core.trace import TraceFilter
from vmlab.vm.trace_event import TraceEvent, function_of
from vmlab.vm.trace_select import selected

__all__ = ["Hunk", "TraceDiff"]

#: edits that are looked for; from there on the rest of both logs is one difference
MOST = 500
#: common events that are shown around a difference, and events of one side
CONTEXT, SHOWN = 3, 12
#: differences, and functions, that are shown
HUNKS, FUNCTIONS = 5, 10


class Hunk(Struct, frozen=True):
    """A difference: the events `left` of the one log from its event `left_at` on stand where the other has
    `right`, from `right_at` on."""

    left_at: int
    left: list[TraceEvent]
    right_at: int
    right: list[TraceEvent]


class TraceDiff:
    """The differences in their order: `hunks`; `same`: there are none. It prints the first ones with what is
    around them, and which functions have more or fewer accesses."""

    def __init__(
        self, left: list[TraceEvent], right: list[TraceEvent], hunks: list[Hunk], given_up: bool
    ) -> None:
        self._left, self._right = left, right
        self.hunks = hunks
        #: they differ so much that the last difference is all the rest
        self.given_up = given_up

    @property
    def same(self) -> bool:
        return not self.hunks

    def by_function(self) -> dict[str, tuple[int, int]]:
        """function -> (events that the first log alone has, events that the second alone has)."""
        gone = Counter(function_of(event) for hunk in self.hunks for event in hunk.left)
        new = Counter(function_of(event) for hunk in self.hunks for event in hunk.right)
        names = sorted(gone | new, key=lambda name: (-gone[name] - new[name], name))
        return {name: (gone[name], new[name]) for name in names}

    def __repr__(self) -> str:
        compared = f"{len(self._left):,} and {len(self._right):,} events"
        if self.same:
            return f"the same: {compared}"
        count = f"{len(self.hunks):,} difference{'s' * (len(self.hunks) > 1)}"
        lines = [f"{count} in {compared}" + (", and given up there" if self.given_up else "")]
        for hunk in self.hunks[:HUNKS]:
            lines += self._told(hunk)
        if len(self.hunks) > HUNKS:
            lines.append(f"... and {len(self.hunks) - HUNKS:,} more")
        rows = list(self.by_function().items())
        lines.append(f"{'-':>8} {'+':>8}  by function")
        lines += [f"{gone:>8,} {new:>8,}  {name}" for name, (gone, new) in rows[:FUNCTIONS]]
        if len(rows) > FUNCTIONS:
            lines.append(f"... and {len(rows) - FUNCTIONS:,} more functions")
        return "\n".join(lines)

    def _told(self, hunk: Hunk) -> list[str]:
        at, end = hunk.left_at, hunk.left_at + len(hunk.left)
        before = self._left[max(0, at - CONTEXT) : at]
        return [
            f"@@ event {at:,} of the one, {hunk.right_at:,} of the other @@",
            *_marked(" ", before),
            *_marked("-", hunk.left),
            *_marked("+", hunk.right),
            *_marked(" ", self._left[end : end + CONTEXT]),
        ]


def _marked(mark: str, events: list[TraceEvent]) -> list[str]:
    lines = [f"{mark} {event.line_of_text(True)}" for event in events[:SHOWN]]
    if len(events) > SHOWN:
        lines.append(f"{mark} ... and {len(events) - SHOWN:,} more")
    return lines


def compare(
    one: list[TraceEvent], other: list[TraceEvent], wanted: TraceFilter, values: bool
) -> TraceDiff:
    """See `vm.trace.Events.diff`."""
    left, right = (selected(events, wanted, None) for events in (one, other))
    keys = [[_key(event, values) for event in side] for side in (left, right)]
    pairs, given_up = aligned(*_numbered(*keys))
    hunks, at, to = [], 0, 0
    for first, second, size in [*pairs, (len(left), len(right), 0)]:
        if at < first or to < second:
            hunks.append(Hunk(at, left[at:first], to, right[to:second]))
        at, to = first + size, second + size
    return TraceDiff(left, right, hunks, given_up)


def _key(event: TraceEvent, values: bool) -> tuple[Any, ...]:
    where = event.register or event.address
    value = event.value if values or event.write is None else None
    return event.kind, event.device, where, event.size, value, event.line, event.text


def _numbered(
    left: list[tuple[Any, ...]], right: list[tuple[Any, ...]]
) -> tuple[list[int], list[int]]:
    """The same number for the same key."""
    numbers: dict[tuple[Any, ...], int] = {}
    for side in (left, right):
        for key in side:
            numbers.setdefault(key, len(numbers))
    return [numbers[key] for key in left], [numbers[key] for key in right]


def aligned(left: list[int], right: list[int]) -> tuple[list[tuple[int, int, int]], bool]:
    """(where in the one, where in the other, how many) of the runs that both have, in their order; and
    whether it was given up at `MOST` differences."""
    head = _common(left, right)
    tail = _common(left[head:][::-1], right[head:][::-1])
    runs, given_up = _myers(left[head : len(left) - tail], right[head : len(right) - tail])
    found = [(at + head, to + head, size) for at, to, size in runs]
    ends = [(0, 0, head), *found, (len(left) - tail, len(right) - tail, tail)]
    return [run for run in ends if run[2]], given_up


def _common(left: list[int], right: list[int]) -> int:
    """How many are the same at the beginning."""
    for at, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return at
    return min(len(left), len(right))


def _myers(left: list[int], right: list[int]) -> tuple[list[tuple[int, int, int]], bool]:
    """The runs of a shortest edit script; of more than `MOST` edits, of the one that has come furthest."""
    if not left or not right:
        return [], False
    furthest, history = {1: 0}, list[dict[int, int]]()
    best = (0, 0)
    for edits in range(MOST + 1):
        history.append(dict(furthest))
        for diagonal in range(-edits, edits + 1, 2):
            down = diagonal == -edits or (
                diagonal != edits
                and furthest.get(diagonal - 1, -1) < furthest.get(diagonal + 1, -1)
            )
            at = furthest[diagonal + 1] if down else furthest[diagonal - 1] + 1
            to = at - diagonal
            while at < len(left) and 0 <= to < len(right) and left[at] == right[to]:
                at, to = at + 1, to + 1
            furthest[diagonal] = at
            if at <= len(left) and to <= len(right) and at + to > sum(best):
                best = (at, to)
            if at >= len(left) and to >= len(right):
                return _runs(history, len(left), len(right)), False
    return _runs(history, *best), True


def _runs(history: list[dict[int, int]], at: int, to: int) -> list[tuple[int, int, int]]:
    """The way back from (at, to)."""
    found = []
    for edits in range(len(history) - 1, -1, -1):
        furthest, diagonal = history[edits], at - to
        down = diagonal == -edits or (
            diagonal != edits and furthest.get(diagonal - 1, -1) < furthest.get(diagonal + 1, -1)
        )
        before = diagonal + 1 if down else diagonal - 1
        came_at = furthest.get(before, 0)
        came_to = came_at - before
        start_at, start_to = (came_at, came_to + 1) if down else (came_at + 1, came_to)
        if edits == 0:
            start_at, start_to = 0, 0
        if at > start_at:
            found.append((start_at, start_to, at - start_at))
        at, to = came_at, came_to
    return found[::-1]

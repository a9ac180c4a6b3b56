"""Two event logs beside each other."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vm.trace_events import Table, event, log
from vmlab import VM
from vmlab.errors import UnknownName
from vmlab.virtio import Rng
from vmlab.vm.trace import SavedTrace
from vmlab.vm.trace_diff import MOST, aligned

LETTERS = st.lists(st.integers(0, 3), max_size=24)


def common_length(left: list[int], right: list[int]) -> int:
    """Of a longest common subsequence, by the table of all prefixes."""
    row = [0] * (len(right) + 1)
    for one in left:
        before = row
        row = [0]
        for at, other in enumerate(right):
            row.append(before[at] + 1 if one == other else max(before[at + 1], row[at]))
    return row[-1]


@settings(max_examples=300, deadline=None)
@given(LETTERS, LETTERS)
def test_the_alignment_is_a_longest_one(left: list[int], right: list[int]) -> None:
    runs, given_up = aligned(left, right)
    assert not given_up
    at = to = 0
    for first, second, size in runs:
        assert first >= at
        assert second >= to
        assert left[first : first + size] == right[second : second + size]
        at, to = first + size, second + size
    assert sum(size for _, _, size in runs) == common_length(left, right)


def sequence(values: list[int]) -> SavedTrace:
    names: dict[int | None, tuple[str, str]] = {0x1000: ("even+0x0", ""), 0x2000: ("odd+0x4", "")}
    made = [event(value=value, pc=0x1000 << value % 2) for value in values]
    return log([one._replace(time=n / 1000) for n, one in enumerate(made)], Table(names))


@settings(max_examples=100, deadline=None)
@given(LETTERS, LETTERS)
def test_the_differences_make_one_log_of_the_other(left: list[int], right: list[int]) -> None:
    found = sequence(left).diff(sequence(right))
    assert found.same is (left == right)
    made, at = [], 0
    for hunk in found.hunks:
        made += left[at : hunk.left_at]
        made += [one.value or 0 for one in hunk.right]
        at = hunk.left_at + len(hunk.left)
    assert made + left[at:] == right
    gone, new = (
        (sum(counts) for counts in zip(*found.by_function().values(), strict=True))
        if found.hunks
        else (0, 0)
    )
    assert (gone, new) == (
        sum(len(hunk.left) for hunk in found.hunks),
        sum(len(hunk.right) for hunk in found.hunks),
    )
    assert repr(found)


def test_what_it_says() -> None:
    left, right = list(range(10)), [*range(5), 70, 71, *range(6, 10)]
    found = sequence(left).diff(sequence(right))
    assert repr(found).splitlines() == [
        "1 difference in 10 and 11 events",
        "@@ event 5 of the one, 5 of the other @@",
        "  0.002000 cpu0 even+0x0  write d0.R = 2",
        "  0.003000 cpu0 odd+0x4  write d0.R = 3",
        "  0.004000 cpu0 even+0x0  write d0.R = 4",
        "- 0.005000 cpu0 odd+0x4  write d0.R = 5",
        "+ 0.005000 cpu0 even+0x0  write d0.R = 0x46",
        "+ 0.006000 cpu0 odd+0x4  write d0.R = 0x47",
        "  0.006000 cpu0 even+0x0  write d0.R = 6",
        "  0.007000 cpu0 odd+0x4  write d0.R = 7",
        "  0.008000 cpu0 even+0x0  write d0.R = 8",
        "       -        +  by function",
        "       1        1  odd",
        "       0        1  even",
    ]
    assert repr(sequence(left).diff(sequence(left))) == "the same: 10 and 10 events"
    assert repr(sequence([]).diff(sequence([]))) == "the same: 0 and 0 events"
    assert sequence(left).diff(sequence([0] * 10), values=False).same
    assert sequence(left).diff(sequence([1]), kinds="read").same
    with pytest.raises(UnknownName, match="no device 'd1'"):
        sequence(left).diff(sequence(left), device="d1")


def test_logs_that_have_nothing_in_common_are_given_up() -> None:
    count = 20_000
    began = time.monotonic()
    found = sequence(list(range(count))).diff(sequence(list(range(count, 2 * count))))
    assert time.monotonic() - began < 20
    assert found.given_up
    assert not found.same
    assert "given up there" in repr(found)
    assert len(repr(found).splitlines()) < 200
    assert sum(len(hunk.left) for hunk in found.hunks) == count
    few = sequence([0] * MOST).diff(sequence([1] * MOST))
    assert not few.same


def test_long_logs_that_differ_little() -> None:
    values = [n % 50 for n in range(100_000)]
    changed = list(values)
    for at in range(1_000, 100_000, 5_000):
        changed[at] += 100
    found = sequence(values).diff(sequence(changed))
    assert [hunk.left_at for hunk in found.hunks] == list(range(1_000, 100_000, 5_000))


def boot(engine: str, queue: str) -> SavedTrace:
    with VM("monitor", engine=engine, devices=[Rng(seed=1, notify="trap")]) as vm:
        vm.console.expect("vmlab> ", 30)
        with vm.trace(device="rng0") as live:
            vm.console.run(f"rng {queue}", timeout=30)
        return live.select()


def test_the_engines_do_the_same_and_the_first_divergence_is_found() -> None:
    first, second = boot("soft", "8"), boot("soft", "8")
    assert first.diff(second).same
    longer = boot("soft", "8 0\nrng 8")
    found = first.diff(longer)
    assert not found.same
    assert found.hunks[0].left == []
    assert {one.register for one in found.hunks[0].right} >= {"QueueNotify"}

"""The PLIC and the CLINT by their registers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmlab.engine.soft.riscv.clint import NEVER, Clint
from vmlab.engine.soft.riscv.plic import SOURCES, Plic

PENDING, ENABLE, CONTEXT = 0x1000, 0x2000, 0x20_0000
CLAIM = 4
CONTEXTS = 4


class Controller:
    def __init__(self) -> None:
        self.lines = [False] * CONTEXTS
        self.plic = Plic(CONTEXTS, self._signal)

    def _signal(self, context: int, level: bool) -> None:
        self.lines[context] = level

    def enable(self, context: int, *sources: int, priority: int = 1) -> None:
        for source in sources:
            self.plic.write(4 * source, priority)
            at = ENABLE + 0x80 * context + source // 32 * 4
            self.plic.write(at, self.plic.read(at) | 1 << source % 32)

    def claim(self, context: int = 0) -> int:
        return self.plic.read(CONTEXT + 0x1000 * context + CLAIM)

    def complete(self, source: int, context: int = 0) -> None:
        self.plic.write(CONTEXT + 0x1000 * context + CLAIM, source)


@pytest.fixture
def made() -> Controller:
    return Controller()


def test_the_highest_priority_then_the_lowest_source(made: Controller) -> None:
    made.enable(0, 3, 40, 1023)
    made.enable(0, 700, priority=5)
    for source in (1023, 40, 3, 700):
        assert made.plic.pulse(source)
    assert made.lines == [True, False, False, False]
    assert [made.claim() for _ in range(5)] == [700, 3, 40, 1023, 0]
    assert not made.lines[0]


def test_the_threshold(made: Controller) -> None:
    made.enable(1, 9, priority=3)
    made.plic.write(CONTEXT + 0x1000, 3)
    made.plic.pulse(9)
    assert (made.lines[1], made.claim(1)) == (False, 0)
    made.plic.write(CONTEXT + 0x1000, 2)
    assert (made.lines[1], made.claim(1)) == (True, 9)


def test_priority_0_never_interrupts(made: Controller) -> None:
    made.enable(0, 5, priority=0)
    made.plic.pulse(5)
    assert not made.lines[0]
    assert made.plic.read(PENDING) == 1 << 5


def test_one_that_is_being_handled_waits(made: Controller) -> None:
    made.enable(0, 5)
    made.enable(2, 5)
    made.plic.pulse(5)
    assert made.claim(2) == 5
    made.plic.pulse(5)
    assert (made.claim(0), made.lines) == (0, [False] * 4)
    made.complete(5, context=1)  # it is not enabled there: ignored
    assert made.claim(0) == 0
    made.complete(5, context=0)
    assert made.claim(0) == 5


def test_a_level(made: Controller) -> None:
    """What is up when it is completed does not come again; each further request of its device does."""
    made.enable(0, 10)
    assert made.plic.drive(10, True)
    assert made.claim() == 10
    made.complete(10)
    assert not made.lines[0]
    assert made.plic.drive(10, True)
    assert made.lines[0]
    made.plic.drive(10, False)
    assert (made.lines[0], made.claim()) == (False, 0)


def test_completions_out_of_order(made: Controller) -> None:
    made.enable(0, *range(1, 9))
    for source in range(1, 9):
        made.plic.pulse(source)
    claimed = [made.claim() for _ in range(8)]
    for source in (*reversed(claimed), 0, 9, 1023, 1 << 20, 0xFFFF_FFFF):
        made.complete(source)
    for source in claimed:
        made.plic.pulse(source)
    assert [made.claim() for _ in range(8)] == claimed


def test_what_is_not_there_reads_0(made: Controller) -> None:
    for offset in (ENABLE + 0x80 * CONTEXTS, CONTEXT + 0x1000 * CONTEXTS, 0x5F_FFFC, CONTEXT + 8):
        made.plic.write(offset, 0xFFFF_FFFF)
        assert made.plic.read(offset) == 0
    made.plic.write(0, 7)
    made.plic.write(ENABLE, 1)
    assert (made.plic.read(0), made.plic.read(ENABLE)) == (0, 0)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["write", "read", "pulse", "up", "down"]),
            st.integers(0, 0x5F_FFFF // 4).map(lambda n: 4 * n)
            | st.sampled_from(
                [4, 8, ENABLE, ENABLE + 0x80, CONTEXT, CONTEXT + 4, CONTEXT + 0x1004]
            ),
            st.integers(0, 0xFFFF_FFFF) | st.integers(0, 31),
        ),
        max_size=60,
    )
)
def test_any_guest(steps: list[tuple[str, int, int]]) -> None:
    """Nothing raises; a line is up exactly while its context would claim something."""
    made = Controller()
    for what, offset, value in steps:
        source = value % (SOURCES - 1) + 1
        if what == "write":
            made.plic.write(offset, value)
        elif what == "read":
            assert 0 <= made.plic.read(offset) <= 0xFFFF_FFFF
        elif what == "pulse":
            made.plic.pulse(source)
        else:
            made.plic.drive(source, what == "up")
        assert made.lines == [bool(made.plic.best(n)) for n in range(CONTEXTS)]


def test_the_clint() -> None:
    soft: list[tuple[int, bool]] = []
    timers: list[int] = []
    clint = Clint(2, lambda: 0x1_0000_0002, lambda *what: soft.append(what), timers.append)
    clint.write(4, 4, 3)
    clint.write(5, 1, 1)
    clint.write(8, 4, 1)
    assert (soft, clint.read(4, 4), clint.read(8, 4)) == ([(1, True)], 1, 0)
    clint.write(0x4008, 4, 5)
    clint.write(0x400C, 4, 6)
    clint.write(0x4010, 8, 1)
    assert (timers, clint.timecmp) == ([1, 1], [NEVER, 6 << 32 | 5])
    assert (clint.read(0x4008, 8), clint.read(0x400C, 4), clint.read(0x4010, 8)) == (
        6 << 32 | 5,
        6,
        0,
    )
    assert (clint.read(0xBFF8, 8), clint.read(0xBFFC, 4)) == (0x1_0000_0002, 1)
    clint.write(0xBFF8, 8, 0)
    assert clint.read(0xBFF8, 4) == 2

"""Events as the processor delivers them: what runs again, RF, what a pending interrupt costs."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator

import pytest

from tests.engine.soft import fault_guests as g
from tests.engine.soft.lab import CODE, GDT, RESULTS, Lab, bench
from vmlab.engine.soft.codecache import CodeCaches

RF, TF = 0x10000, 0x100


@pytest.fixture
def lab() -> Iterator[Lab]:
    with bench() as lab:
        yield lab


def test_frames_of_faults_and_traps(lab: Lab) -> None:
    """SDM vol 3 §18.3.1.1: RF is 1 for faults; §6.5: RIP is the instruction's for those, else behind it."""
    for vector in (13, 14):
        lab.gate(vector, CODE + 0x100)
    for vector in (0, 1, 3, 6, 0x80):
        lab.gate(vector, CODE + 0x110)
    lab.run(g.FRAMES)
    code = g.FRAMES.code
    faults = [b"\xf7\xf1", b"\x0f\x0b", b"\x8e\xd8", b"\x88\x06"]
    traps = [b"\xcc\x48", b"\xcd\x80", b"\xf1\x48"]
    places = [CODE + code.index(one) for one in faults]
    places += [CODE + code.rindex(one) + (2 if one[0] == 0xCD else 1) for one in traps]
    places.append(CODE + code.index(b"\x9d\x90") + 2)
    seen = [struct.unpack("<QQ", lab.memory.read(RESULTS + 16 * n, 16)) for n in range(8)]
    assert [rip for rip, _ in seen] == places
    assert [bool(flags & RF) for _, flags in seen] == [True] * 4 + [False] * 4
    assert [bool(flags & TF) for _, flags in seen] == [False] * 7 + [True]


def test_int_runs_again_after_its_fault(lab: Lab) -> None:
    lab.gate(11, CODE + 0x100)
    lab.gate(0x80, CODE + 0x180, kind=0x0E)
    lab.run(g.INT_AGAIN)
    at = CODE + g.INT_AGAIN.code.index(b"\xcd\x80")
    assert lab.results(4) == [0x80 * 8 + 2, at, 1, at + 2]


def test_int3_runs_again_in_32_bits(lab: Lab) -> None:
    lab.memory.write(GDT + 0x10, struct.pack("<Q", 0x00CF9B000000FFFF))
    lab.gate32(11, CODE + 0x100)
    lab.gate32(3, CODE + 0x180, kind=0x0E)
    lab.load(g.INT3_AGAIN, "protected")
    lab.engine.start()
    lab.finish()
    at = CODE + g.INT3_AGAIN.code.index(b"\xcc")
    assert lab.results(4) == [3 * 8 + 2, at, 1, at + 1]


def test_a_handler_that_is_not_canonical_is_gp(lab: Lab) -> None:
    lab.gate(0x80, 0x8000_0000_0000)
    lab.gate(13, CODE + 0x100)
    lab.load(g.INT_AGAIN)  # which runs INT again for ever
    lab.engine.start()
    lab.wait_for(lambda: lab.u64(RESULTS + 8) != 0)
    lab.engine.pause()
    assert lab.u64(RESULTS) == 0
    assert lab.u64(RESULTS + 8) == CODE + g.INT_AGAIN.code.index(b"\xcd\x80")


@pytest.mark.parametrize("told", [True, False], ids=["machine code", "python"])
def test_a_pending_interrupt_costs_nothing_while_masked(
    told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is taken when IF is set again."""
    if not told:
        monkeypatch.setattr(CodeCaches, "flags", lambda self, context: None)
    with bench() as lab:
        vcpu = lab.engine._vcpus[0]
        lab.gate(0x40, CODE + 0x100)
        looks: list[None] = []
        load = vcpu.context.load  # type: ignore[attr-defined]

        def noted() -> None:
            looks.append(None)
            load()

        vcpu.context.load = noted  # type: ignore[attr-defined]
        lab.run(g.PENDING, timeout=60)
        assert lab.results(2) == [1, 1]
        assert len(looks) < 100_000, "three million blocks, and looked at on each"


def test_the_fastest_timer_leaves_room(lab: Lab) -> None:
    lab.gate(0x40, CODE + 0x100)
    lab.load(g.FASTEST_TIMER)
    lab.engine.start()
    lab.wait_for(lambda: lab.u64(RESULTS) > 20, timeout=20)
    took = []
    for _ in range(5):
        began = time.monotonic()
        lab.engine.pause()
        took.append(time.monotonic() - began)
        lab.engine.resume()
    assert min(took) < 0.1, took
    lab.engine.pause()

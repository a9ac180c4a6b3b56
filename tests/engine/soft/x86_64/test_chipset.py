"""The interrupt controllers wired together, and the timers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from vmlab.engine.soft.timers import Timers
from vmlab.engine.soft.x86_64 import lapic
from vmlab.engine.soft.x86_64.chipset import Chipset
from vmlab.engine.soft.x86_64.ioapic import IoApic


def redirect(chip: IoApic, pin: int, low: int, high: int = 0) -> None:
    for index, value in ((0x11 + 2 * pin, high), (0x10 + 2 * pin, low)):
        chip.write(0, index)
        chip.write(0x10, value)


@pytest.fixture
def board() -> Iterator[Any]:
    woken: list[int] = []
    signals: list[tuple[int, int]] = []
    chipset = Chipset(
        2,
        threading.RLock(),
        lambda cpu, new: woken.append(cpu),
        lambda cpu, ipi: signals.append((cpu, ipi.mode)),
    )
    yield chipset, woken, signals
    chipset.close()


def enable(chipset: Chipset, cpu: int) -> None:
    chipset.write_mmio(cpu, lapic.BASE + 0xF0, 4, 0x1FF)


def test_gsi_reach_both_controllers(board: Any) -> None:
    chipset, woken, _ = board
    enable(chipset, 0)
    for gsi, pin in ((0, 2), (5, 5), (20, 20)):
        redirect(chipset.ioapic, pin, 0x40 + gsi)
        chipset.pulse_gsi(gsi)
        if gsi < 16:  # the 8259A comes first by LINT0, its vector base is 0 here
            assert chipset.acknowledge(0) == gsi
        assert chipset.acknowledge(0) == 0x40 + gsi
        chipset.write_mmio(0, lapic.BASE + 0xB0, 4, 0)
        chipset.pic.master.isr = 0
    assert woken
    assert chipset.acknowledge(0) is None
    assert chipset.line == [False, False]


def test_ipis(board: Any) -> None:
    chipset, _, signals = board
    enable(chipset, 0)
    enable(chipset, 1)

    def icr(low: int, high: int = 0) -> None:
        chipset.write_mmio(0, lapic.BASE + 0x310, 4, high << 24)
        chipset.write_mmio(0, lapic.BASE + 0x300, 4, low)

    icr(0x41, 1)
    assert [chipset.acknowledge(0), chipset.acknowledge(1)] == [None, 0x41]
    icr(0x4_0051)
    assert [chipset.acknowledge(0), chipset.acknowledge(1)] == [0x51, None]
    icr(0xC_0061)
    assert [chipset.acknowledge(0), chipset.acknowledge(1)] == [None, 0x61]
    icr(0x8_0071)
    assert [chipset.acknowledge(0), chipset.acknowledge(1)] == [0x71, 0x71]
    icr(0xC_4500)
    icr(0xC_8500)  # INIT level de-assert: nothing
    icr(0xC_4608)
    icr(0x4400, 1)
    assert signals == [(1, lapic.INIT), (1, lapic.STARTUP), (1, lapic.NMI)]
    icr(0x181, 0xFF)  # lowest priority: one CPU only
    assert sorted([chipset.acknowledge(0) or 0, chipset.acknowledge(1) or 0]) == [0, 0x81]


def test_register_accesses_of_odd_sizes(board: Any) -> None:
    chipset, _, _ = board
    base = lapic.BASE + 0x30
    assert chipset.read_mmio(0, base, 4) == 0x50014
    assert chipset.read_mmio(0, base + 2, 2) == 5
    assert chipset.read_mmio(0, base, 1) == 0x14
    assert chipset.read_mmio(0, base + 8, 4) == 0
    chipset.write_mmio(0, base + 4, 4, 1)


def test_a_reset_keeps_the_devices_lines(board: Any) -> None:
    chipset, _, _ = board
    chipset.set_gsi(5, True)
    chipset.reset()
    assert chipset.ioapic.lines == 1 << 5
    assert chipset.pic.master.lines == 1 << 5


def test_timers_fire_in_order_and_once() -> None:
    lock = threading.RLock()
    timers = Timers(lock, "test")
    fired: list[str] = []
    done = threading.Event()
    now = time.monotonic_ns()
    with lock:
        timers.set("never", now + 10**12, lambda: fired.append("never"))
        timers.set("b", now + 10_000_000, lambda: (fired.append("b"), done.set()))  # type: ignore[arg-type]
        timers.set("a", now + 5_000_000, lambda: fired.append("a"))
        timers.set("gone", now + 1_000_000, lambda: fired.append("gone"))
        timers.set("gone", None, lambda: None)
    assert done.wait(5)
    assert fired == ["a", "b"]
    timers.close()

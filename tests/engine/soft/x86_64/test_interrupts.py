"""Interrupts by every way into the CPU, and the kick under a storm of them."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator

import pytest

from tests.engine.soft import guests as g
from tests.engine.soft.lab import CODE, DEVICE, RESULTS, Lab, bench

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture(params=[False, True], ids=["kick", "deterministic"])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    with bench(deterministic=request.param) as lab:
        yield lab


def counted(lab: Lab, at: int = RESULTS, *, base: int = 0) -> int:
    return lab.u64(at) - base


def wait_halted(lab: Lab, hlts: int) -> None:
    lab.wait_for(lambda: lab.engine.exits["hlt"] >= hlts)


def test_edge_by_ioapic_wakes_a_halted_cpu(lab: Lab) -> None:
    lab.gate(0x35, CODE + 0x100)
    lab.load(g.IOAPIC)
    lab.engine.start()
    sink = lab.engine.irq_sink(5)
    for n in range(200):
        wait_halted(lab, n + 1)
        sink.pulse()
        lab.wait_for(lambda: counted(lab) == n + 1)  # noqa: B023
    wait_halted(lab, 201)
    # a level held high is one edge
    sink.set(True)
    sink.set(True)
    lab.wait_for(lambda: counted(lab) == 201)
    sink.set(False)
    wait_halted(lab, 202)
    assert counted(lab) == 201
    assert counted(lab, RESULTS + 0x80) == 201


def test_level_by_ioapic_comes_again_until_it_falls(lab: Lab) -> None:
    lab.gate(0x36, CODE + 0x180)
    sink = lab.engine.irq_sink(6)
    reads = 0

    def acknowledge(address: int, size: int) -> int:
        nonlocal reads
        reads += 1
        if reads == 3:
            sink.set(False)
        return 0

    lab.mmio.reader = acknowledge
    lab.load(g.IOAPIC)
    lab.engine.start()
    wait_halted(lab, 1)
    sink.set(True)
    lab.wait_for(lambda: counted(lab, RESULTS + 8) == 3)
    wait_halted(lab, 2)
    time.sleep(0.01)
    assert counted(lab, RESULTS + 8) == reads == 3


def test_by_pic_master_and_slave(lab: Lab) -> None:
    lab.gate(0x23, CODE + 0x100)
    lab.gate(0x2A, CODE + 0x180)
    lab.load(g.PIC)
    lab.engine.start()
    wait_halted(lab, 1)
    for n in range(50):
        lab.engine.irq_sink(3).pulse()
        lab.wait_for(lambda: counted(lab) == n + 1)  # noqa: B023
        lab.engine.irq_sink(10).pulse()
        lab.wait_for(lambda: counted(lab, RESULTS + 8) == n + 1)  # noqa: B023
        lab.engine.irq_sink(4).pulse()  # masked
    assert counted(lab) == counted(lab, RESULTS + 8) == 50


def test_pit_ticks_come_at_their_rate(lab: Lab) -> None:
    lab.gate(0x20, CODE + 0x100)
    started = time.monotonic()
    lab.run(g.PIT)
    assert 0.019 < time.monotonic() - started < 2
    assert counted(lab) == 20


def test_lapic_timer_one_shot_and_periodic(lab: Lab) -> None:
    lab.gate(0x40, CODE + 0x100)
    started = time.monotonic()
    lab.run(g.LAPIC_TIMER)
    assert 0.0095 < time.monotonic() - started < 2
    assert lab.u64(RESULTS + 8) == 1
    assert counted(lab) >= 10


@pytest.mark.parametrize("accesses", [120_000])
def test_kicks_neither_repeat_nor_lose_anything(lab: Lab, accesses: int) -> None:
    """Thousands of interrupts while memory counts and devices are read and written."""
    lab.gate(0x35, CODE + 0x100)
    lab.load(g.STORM)
    lab.memory.write(RESULTS + 0x100, accesses.to_bytes(8, "little"))
    writes: list[int] = []
    reads = outs = 0

    def reading(address: int, size: int) -> int:
        nonlocal reads
        reads += 1
        return 0

    def out(port: int, size: int, value: int) -> None:
        nonlocal outs
        outs += 1

    lab.mmio.log = lab.ports.log = _Forgetful()
    lab.mmio.reader = reading
    lab.mmio.on_write = lambda address, size, value: writes.append(value)
    lab.ports.on_write = out
    sent = _storm(lab)
    assert writes == list(range(1, accesses + 1))
    assert reads == outs == accesses
    assert [lab.u64(RESULTS + 8 * n) for n in (1, 2, 3, 4)] == [accesses] * 4
    # each was sent after the one before had been handled; the last may have come after CLI
    assert sent - 1 <= counted(lab) <= sent
    assert sent > (50 if lab.deterministic else 2000), sent
    assert lab.engine.exits["mmio"] == 2 * accesses


class _Forgetful(list[tuple[str, int, int, int]]):
    def append(self, _entry: tuple[str, int, int, int]) -> None:
        pass


def _storm(lab: Lab) -> int:
    """Run to the end with an interrupt as soon as the last one was handled -> how many were sent."""
    # the sender and the buses share the interpreter: let it change hands often
    interval = sys.getswitchinterval()
    sys.setswitchinterval(20e-6)
    try:
        return _send(lab)
    finally:
        sys.setswitchinterval(interval)


def _send(lab: Lab) -> int:
    sink = lab.engine.irq_sink(5)
    sent = 0
    lab.engine.start()
    lab.wait_for(lambda: lab.u64(RESULTS + 8) > 100)
    deadline = time.monotonic() + 60
    while not lab.exited.is_set() and time.monotonic() < deadline:
        if lab.u64(RESULTS) >= sent:
            sink.pulse()
            sent += 1
        else:
            time.sleep(0)
    lab.finish(1)
    return sent


def test_lines_are_checked(lab: Lab) -> None:
    from vmlab.errors import ConfigError

    with pytest.raises(ConfigError):
        lab.engine.irq_sink(24)


def test_interrupt_raised_inside_a_device_access(lab: Lab) -> None:
    """A device that raises its line in its handler is served at the next block."""
    lab.gate(0x35, CODE + 0x100)
    sink = lab.engine.irq_sink(5)
    lab.load(g.STORM)
    lab.memory.write(RESULTS + 0x100, (1000).to_bytes(8, "little"))
    lab.mmio.on_write = lambda address, size, value: sink.pulse()  # type: ignore[assignment]
    lab.engine.start()
    lab.finish()
    assert len([e for e in lab.mmio.log if e[0] == "w" and e[1] == DEVICE]) == 1000
    if lab.deterministic:
        assert counted(lab) > 0
    else:
        assert 999 <= counted(lab) <= 1000


def test_a_halted_guest_uses_no_processor(lab: Lab) -> None:
    lab.load(g.HALT)
    lab.engine.start()
    wait_halted(lab, 1)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.03


def test_many_threads_raise_lines(lab: Lab) -> None:
    lab.gate(0x35, CODE + 0x100)
    lab.gate(0x36, CODE + 0x100)
    lab.load(g.IOAPIC)
    lab.engine.start()
    wait_halted(lab, 1)  # until then the pins are masked and edges lost

    def pulse(gsi: int) -> None:
        for _ in range(200):
            lab.engine.irq_sink(gsi).pulse()

    threads = [threading.Thread(target=pulse, args=(5,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    before = counted(lab)
    lab.engine.irq_sink(5).pulse()
    lab.wait_for(lambda: counted(lab) > before)


def test_the_shadow_of_sti_ends_inside_a_rep(lab: Lab) -> None:
    lab.gate(0x35, CODE + 0x100)
    lab.run(g.SHADOW)
    assert 99_000 < lab.u64(RESULTS) < 100_000


def test_the_shadow_of_sti_is_one_step(lab: Lab) -> None:
    lab.gate(0x35, CODE + 0x100)
    lab.load(g.SHADOW)
    rip = CODE
    for _ in range(20):
        lab.engine.step()
        rip = lab.engine.get_regs()["rip"]
        if rip >= CODE + 0x100:
            break
    assert CODE + 0x100 <= rip < CODE + 0x110
    assert lab.engine.get_regs()["rcx"] in (99_998, 99_999)

"""Pause, park, step, load and the end."""

from __future__ import annotations

import gc
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.soft.arm64 import guests
from tests.engine.soft.arm64.lab import DEVICE, EXIT, RESULTS, Lab, bench
from vmlab.arch.arm64.cpu_state import CpuState

CODE = guests.CODE
#: 1: add x1, x1, #1; ldr w2, [x3]; str x1, [x4]; b 1b
WORDS = (0x9100_0421, 0xB940_0062, 0xF900_0081, 0x17FF_FFFD)
REGISTERS = {"x3": DEVICE, "x4": RESULTS}


@pytest.fixture(params=["native", "portable"])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    with bench(way=request.param) as made:
        made.memory.write(CODE, struct.pack("<4I", *WORDS))
        made.engine.load(CpuState(CODE, REGISTERS))
        yield made


class Parking:
    """The first read of a device waits in it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.inside = threading.Event()
        self.answers: list[bool] = []
        lab.bus.reader = self.read

    def read(self, _address: int, _size: int) -> int:
        if not self.inside.is_set():
            self.inside.set()
            self.answers.append(self.lab.engine.park())
        return 5


def test_park_blocks_the_access(lab: Lab) -> None:
    parking = Parking(lab)
    lab.engine.start()
    assert parking.inside.wait(5)
    assert lab.engine.pause(5)
    values = lab.engine.get_regs()
    assert (values["x1"], values["pc"]) == (1, CODE + 4)
    ticks = lab.engine._gic.clock.ticks()
    lab.engine.resume()
    lab.wait_for(lambda: parking.answers == [True])
    assert lab.engine._gic.clock.ticks() - ticks < 62_500_000
    assert lab.engine.pause(5)
    assert lab.engine.get_regs()["x2"] == 5


def test_step_out_of_a_parked_access(lab: Lab) -> None:
    parking = Parking(lab)
    lab.engine.start()
    assert parking.inside.wait(5)
    assert lab.engine.pause(5)
    assert lab.engine.step()
    assert parking.answers == [True]
    assert lab.engine.get_regs()["x2"] == 5


def test_load_while_an_access_is_parked(lab: Lab) -> None:
    parking = Parking(lab)
    lab.engine.start()
    assert parking.inside.wait(5)
    assert lab.engine.pause(5)
    lab.write(RESULTS, 77)
    lab.engine.load(CpuState(CODE, REGISTERS))
    assert parking.answers == [True]
    assert lab.results(1) == [77], "what the abandoned block still wrote was undone"
    values = lab.engine.get_regs()
    assert (values["x1"], values["x2"], values["pc"]) == (0, 0, CODE)
    lab.engine.resume()
    lab.wait_for(lambda: lab.results(1)[0] not in (0, 77))


def test_load_again_runs_the_new_code(lab: Lab) -> None:
    lab.engine.start()
    lab.wait_for(lambda: lab.results(1)[0] > 10)
    assert lab.engine.pause(5)
    lab.run_again(guests.ACCESSES)
    assert lab.bus.log[-1][0] == "r"


def test_a_second_cpu_starts_after_a_new_load_too() -> None:
    with bench(2) as lab:
        for _ in range(2):
            lab.write(RESULTS, 0, 0, 0, 0, 0, 0)
            lab.write(RESULTS + 128, 2, 100)
            lab.run_again(guests.SMP)
            assert lab.results(2) == [200, 1]


@pytest.mark.parametrize("state", ["created", "loaded", "running", "asleep", "parked", "stepped"])
def test_close_in_every_state(state: str) -> None:
    with bench() as lab:
        if state == "created":
            return
        words = WORDS if state != "asleep" else (0xD503_207F, 0x17FF_FFFF)
        lab.memory.write(CODE, struct.pack(f"<{len(words)}I", *words))
        lab.engine.load(CpuState(CODE, REGISTERS))
        if state == "loaded":
            return
        if state == "stepped":
            assert lab.engine.step()
            return
        parking = Parking(lab) if state == "parked" else None
        lab.engine.start()
        if parking:
            assert parking.inside.wait(5)
        if state == "asleep":
            lab.wait_for(lambda: lab.engine.exits["hlt"] > 0)
    if parking:
        assert parking.answers == [False]


def test_nothing_is_left_over_many_lives() -> None:
    def one() -> None:
        with bench(2) as lab:
            lab.write(RESULTS + 128, 2, 10)
            lab.run(guests.SMP)

    for _ in range(5):
        one()
    gc.collect()
    before, threads = _resident(), threading.active_count()
    for _ in range(20):
        one()
    gc.collect()
    assert _resident() - before < 30 << 20
    assert threading.active_count() <= threads


def _resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_what_lies_nowhere_is_a_bus_access(lab: Lab) -> None:
    """Anything that is no RAM goes to the bus, with its address."""
    # ldr x0, [x5]; str w0, [x6]; b .
    lab.memory.write(CODE, struct.pack("<3I", 0xF940_00A0, 0xB900_00C0, 0x1400_0000))
    far = 0x12_3456_7890
    lab.engine.load(CpuState(CODE, {"x5": far, "x6": EXIT}))
    lab.engine.start()
    lab.finish()
    assert lab.bus.log == [("r", far, 8, (1 << 64) - 1)]

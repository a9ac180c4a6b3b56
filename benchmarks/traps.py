"""What an MMIO write costs: through manager, counters and a Python device, against the bare C loop.

Both run the same guest code. The device notes when the first and the last write reach it; the C loop
does the same. The two take turns.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cloudpickle

from elf import DONE, trap_loop, write_pvh_elf
from figures import Figure, NotHere, ratio
from vmlab import VM, Device, Registers
from vmlab.core.device import on_write
from vmlab.regs import ro, rw

__all__ = ["measure"]

HERE = Path(__file__).resolve().parent

# the monitor process cannot import this file: its classes travel whole
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Tally(Device):
    """Notes the moments of the guest's first and last write; the guest counts down to 1."""

    class regs(Registers):
        DATA = rw(0x04, "what the guest counts")
        FIRST = ro(0x10, "ns when DATA was first written", width=64)
        LAST = ro(0x18, "ns when DATA was set to 1", width=64)

    def __init__(self, first: int) -> None:
        self.first = first

    @on_write("DATA")
    def data(self, value: int) -> None:
        if value == 1:
            self.r.LAST = time.perf_counter_ns()
        elif value == self.first:
            self.r.FIRST = time.perf_counter_ns()


def measure(rounds: int, count: int) -> list[Figure]:
    """Three figures; `count` traps in each of `rounds` rounds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        floor = build_floor(folder)
        code = folder / "loop.bin"
        code.write_bytes(trap_loop(count))
        kernel = write_pvh_elf(folder / "loop.elf", trap_loop(count))
        bare, counted, idle, busy = [], [], [], []
        for _ in range(rounds):
            bare.append(run_floor(floor, code, count, "null"))
            idle.append(run_vmlab(kernel, count))
            counted.append(run_floor(floor, code, count, "count"))
            with busy_interpreter():
                busy.append(run_vmlab(kernel, count))
    return [
        ratio("MMIO write, Python device / bare C loop", {"us": idle}, {"us in C": bare}, 1.35),
        ratio(
            "the same with this interpreter 100 % busy / idle",
            {"us busy": busy},
            {"us idle": idle},
            1.05,
        ),
        ratio("C loop with look-up and counting / bare", {"us": counted}, {"us bare": bare}, 1.35),
    ]


def build_floor(folder: Path) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise NotHere("no C compiler for floor.c (Debian: apt-get install gcc libc6-dev)")
    program = folder / "floor"
    done = subprocess.run(
        [compiler, "-O2", "-Wall", "-o", program, HERE / "floor.c"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise NotHere(f"{compiler} cannot build floor.c (Debian: libc6-dev):\n{done.stderr}")
    return program


def run_floor(program: Path, code: Path, count: int, mode: str) -> float:
    """Microseconds per trap."""
    done = subprocess.run(
        [program, code, str(count), mode, "irqchip"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return float(done.stdout)


def run_vmlab(kernel: Path, count: int) -> float:
    """Microseconds per trap. Nothing is asked of the machine before the guest says that it is done."""
    with VM(kernel=str(kernel), engine="kvm", memory="16M", devices=[Tally(count)]) as vm:
        vm.console.expect(re.escape(DONE.decode()), timeout=120)
        tally = next(view for view in vm.devices.values() if view.type == "tally")
        moments = tally.peek()
    return float((moments["LAST"] - moments["FIRST"]) / 1000 / (count - 1))


@contextlib.contextmanager
def busy_interpreter() -> Iterator[None]:
    """A thread that never lets go of the interpreter but when it is made to."""
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            for _ in range(10_000):
                pass

    thread = threading.Thread(target=spin, name="busy")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()

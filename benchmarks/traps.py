"""What an MMIO write costs: through manager, counters and a Python device, against the bare C loop.

Both run the same guest code and take the time of every CHUNK writes; the median of those counts. The
two take turns.
"""

from __future__ import annotations

import contextlib
import itertools
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
from figures import Figure, NotHere, median, ratio
from vmlab import VM, Device, Registers
from vmlab.core.device import on_write
from vmlab.regs import ro, rw

__all__ = ["measure"]

HERE = Path(__file__).resolve().parent
#: as in floor.c; a power of two
CHUNK = 1024

# the monitor process cannot import this file: its classes travel whole
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Tally(Device):
    """The guest counts down in DATA; this times every CHUNK of its writes, as floor.c does."""

    class regs(Registers):
        DATA = rw(0x04, "what the guest counts")
        MEDIAN = ro(0x10, "ns per CHUNK writes, the median; set with the last write", width=64)

    def __init__(self) -> None:
        self.marks: list[int] = []

    @on_write("DATA")
    def data(self, value: int) -> None:
        if not value & (CHUNK - 1):
            self.marks.append(time.perf_counter_ns())
        elif value == 1:
            took = [after - before for before, after in itertools.pairwise(self.marks)]
            self.r.MEDIAN = int(median(took))


def measure(rounds: int, chunks: int) -> list[Figure]:
    """Three figures; `chunks` times CHUNK traps in each of `rounds` rounds."""
    count = chunks * CHUNK
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        floor = build_floor(folder)
        code = folder / "loop.bin"
        code.write_bytes(trap_loop(count))
        kernel = write_pvh_elf(folder / "loop.elf", trap_loop(count))
        bare, counted, idle, bare_busy, busy = [], [], [], [], []
        for _ in range(rounds):
            bare.append(run_floor(floor, code, count, "null"))
            idle.append(run_vmlab(kernel))
            counted.append(run_floor(floor, code, count, "count"))
            with busy_interpreter():
                bare_busy.append(run_floor(floor, code, count, "null"))
                busy.append(run_vmlab(kernel))
    ours = ratio("MMIO write, Python device / bare C loop", {"us": idle}, {"us in C": bare}, 1.35)
    # A busy core slows its neighbour, C or not: what counts is what that does to the ratio.
    before = [top / bottom for top, bottom in zip(idle, bare, strict=True)]
    after = [top / bottom for top, bottom in zip(busy, bare_busy, strict=True)]
    held = ratio(
        "  that ratio, this interpreter 100 % busy / idle", {"x": after}, {"x idle": before}, 1.05
    )
    held.of |= {"us busy": median(busy), "us in C meanwhile": median(bare_busy)}
    look_up = ratio(
        "  C loop with look-up and counting / bare", {"us": counted}, {"us bare": bare}, None
    )
    return [ours, held, look_up]


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


def run_vmlab(kernel: Path) -> float:
    """Microseconds per trap. Nothing is asked of the machine before the guest says that it is done."""
    with VM(kernel=str(kernel), engine="kvm", memory="16M", devices=[Tally()]) as vm:
        vm.console.expect(re.escape(DONE.decode()), timeout=120)
        tally = next(view for view in vm.devices.values() if view.type == "tally")
        return float(tally.peek()["MEDIAN"]) / 1000 / CHUNK


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

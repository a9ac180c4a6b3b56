"""What an event log costs: a guest writes one register for ever, with and without a log in turns, so that
what else the host does meets both.
"""

from __future__ import annotations

import struct
import sys
import tempfile
import time
from pathlib import Path

import cloudpickle

from elf import WINDOW, write_pvh_elf
from figures import Figure, ratio
from vmlab import VM, Device, Registers
from vmlab.core.device import on_write
from vmlab.regs import rw

__all__ = ["measure"]

#: seconds that each of the two has in a turn
TURN = 0.05


# the monitor process cannot import this file: its classes travel whole
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Scratch(Device):
    """As in `traps`: a register with a handler."""

    class regs(Registers):
        DATA = rw(0x04, "what the guest writes")

    @on_write("DATA")
    def data(self, value: int) -> None:
        self.last = value


def measure(engine: str, turns: int) -> list[Figure]:
    with tempfile.TemporaryDirectory() as name:
        kernel = write_pvh_elf(Path(name) / "loop.elf", _endless(WINDOW + 4))
        with VM(str(kernel), engine=engine, memory="16M", devices=[Scratch()]) as vm:
            vm.wait_until(lambda v: v.traps["scratch0"].traps > 1000, timeout=60)
            without, traced = [], []
            for _ in range(turns):
                without.append(_per_trap(vm))
                with vm.trace(kinds="access"):
                    traced.append(_per_trap(vm))
    return [
        ratio(
            f"MMIO write with an event log and its program counter / without, {engine}",
            {"us logged": traced},
            {"us": without},
            1.5 if engine == "kvm" else None,
        )
    ]


def _endless(address: int) -> bytes:
    """mov edi, address; loop: mov [edi], ecx; jmp loop."""
    return b"\xbf" + struct.pack("<I", address) + b"\x89\x0f\xeb\xfc"


def _per_trap(vm: VM) -> float:
    """Microseconds, from the shared counters."""
    began, before, done = time.perf_counter(), _traps(vm), 0
    while not done:  # a busy host may give the guest no time in a turn
        time.sleep(TURN)
        done = _traps(vm) - before
    return (time.perf_counter() - began) * 1e6 / done


def _traps(vm: VM) -> int:
    return vm.traps["scratch0"].traps

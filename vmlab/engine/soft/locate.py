"""Where the instruction lies whose access is being handled.

Before a memory hook Unicorn has stored the program counter; before an MMIO callback it has not. QEMU knows
the place in the translated code (`mem_io_pc` in CPUState) and finds the instruction by it, by a function that
builds for Linux export. Elsewhere the counter is that of the block's start.
"""

from __future__ import annotations

import ctypes
import sys

from vmlab.engine.soft.uclib import Uc

__all__ = ["Locator"]

_SIZE = ctypes.c_size_t
_ONLY_CPU = -1
# in QEMU's CPUState, the same for all targets: env_ptr, icount_decr_ptr, which lies before the former's
# target; mem_io_pc
_ENV, _ICOUNT, _ICOUNT_BEFORE, _MEM_IO_PC = 0x128, 0x130, 16, 0x8178
#: UC_X86_REG_RIP, UC_ARM64_REG_PC, UC_RISCV_REG_PC by QEMU's name of the target
_COUNTERS = {"x86_64": 41, "aarch64": 260, "riscv64": 190, "riscv32": 190}


class Locator:
    """Of one instance, whose target QEMU calls `target`. On the engine's thread."""

    def __init__(self, uc: Uc, target: str) -> None:
        self._uc, self._counter = uc, _COUNTERS[target]
        self._cpu = 0
        find = getattr(uc.lib, f"qemu_get_cpu_{target}", None)
        restore = getattr(uc.lib, f"cpu_restore_state_{target}", None)
        if find is None or restore is None or not sys.platform.startswith("linux"):
            return
        find.argtypes, find.restype = (_SIZE, ctypes.c_int), _SIZE
        restore.argtypes, restore.restype = (_SIZE, _SIZE, ctypes.c_bool), ctypes.c_bool
        self._restore = restore
        cpu = find(uc.handle, _ONLY_CPU)
        if not cpu:
            return
        env, counter = (ctypes.c_uint64.from_address(cpu + at).value for at in (_ENV, _ICOUNT))
        if counter == env - _ICOUNT_BEFORE:
            self._cpu, self._place = cpu, _SIZE.from_address(cpu + _MEM_IO_PC)

    def in_hook(self) -> int:
        """The program counter; from a hook."""
        return self._uc.read_register(self._counter)

    def in_callback(self) -> int:
        """The program counter; from an MMIO callback."""
        if self._cpu:
            self._restore(self._cpu, self._place.value, False)
        return self._uc.read_register(self._counter)

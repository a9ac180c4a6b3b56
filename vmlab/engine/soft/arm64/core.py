"""One Unicorn instance on which a machine's CPUs run by turns, through Unicorn's public functions alone.

Exceptions and interrupts are entered by hand (`exceptions`), system registers that Unicorn has not, or has
not working, are served from hooks on MRS and MSR, and stores are watched by a hook for writes to
write-protected RAM, of which there is none: it makes Unicorn notice each store into translated code. Where
the library's inner functions can be had, `native` does all this at a fraction of the cost.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterable, Mapping
from typing import Protocol

from vmlab.core.memory import Region
from vmlab.core.once import once
from vmlab.engine.soft import uclib
from vmlab.engine.soft.arm64 import exceptions, timer
from vmlab.engine.soft.arm64 import registers as r
from vmlab.engine.soft.arm64.registers import Key
from vmlab.engine.soft.context import Saved
from vmlab.engine.soft.uclib import Uc
from vmlab.errors import EngineError

__all__ = ["HVC", "SMC", "UNDEFINED", "Core", "Owner"]

#: Unicorn's numbers of exceptions (QEMU's EXCP_*)
UNDEFINED, HVC, SMC = 1, 11, 13
_HOOK = ctypes.CFUNCTYPE(
    ctypes.c_uint32, ctypes.c_size_t, ctypes.c_int, ctypes.POINTER(r.System), ctypes.c_size_t
)
_I = 1 << 7
_PAGE = 0x1000
#: UC_ARM64_INS_*
_MRS, _MSR, _SYS = 1, 2, 3
#: bits 31:22 of the instructions
_MRS_MSR = 0x354
#: CRn of IC and DC; CRm of IC IALLUIS, IALLU and IVAU
_CACHES, _INSTRUCTION = 7, (1, 5)
# svc #0x1234; ldaxr x0, [x1]
_FAULTS = bytes.fromhex("814602d4 20fc5fc8")
_SYNDROME, _UNALIGNED = 0x5600_1234, 0x801


class Owner(Protocol):
    """Who the CPU that runs belongs to; called on the engine's thread."""

    def on_exception(self, number: int) -> bool:
        """Before it is entered -> whether it is done with (a call of the firmware)."""
        ...

    def read_system(self, key: Key) -> int: ...
    def write_system(self, key: Key, value: int) -> None: ...

    def leave_soon(self) -> None:
        """At the next block."""
        ...

    def code_at(self, address: int) -> bytes:
        """The instruction at a virtual address; empty where there is none."""
        ...


class Core:
    """`uc` with its RAM mapped. served: the system registers that are the owner's; constants: those that read
    as the given value. Nothing has run yet."""

    def __init__(
        self,
        uc: Uc,
        regions: Iterable[Region],
        owner: Owner,
        served: Mapping[Key, str],
        constants: Mapping[Key, int],
    ) -> None:
        self.uc, self._owner = uc, owner
        self._regions = tuple(regions)
        #: an exception that is to be entered when Unicorn has been left
        self._raised: int | None = None
        #: this stay in the guest ends because somebody wanted it
        self.stopped = False
        #: memory that code may have been translated from was written by the host
        self._stale = False
        uc.hook(uclib.HOOK_INTR, uclib.INTR_HOOK(self._on_interrupt), 1, 0)
        self._serve(served, constants)
        self._watch_code()

    # -- how it is done here ---------------------------------------------------------------------------

    def _serve(self, served: Mapping[Key, str], constants: Mapping[Key, int]) -> None:
        self._scratch = Saved(self.uc)
        self._syndrome, self._address = _find_fault()
        self._served, self._constants = served, constants
        # an instruction that names them is undefined, whatever a hook says
        self._unknown = served.keys() - timer.REGISTERS.keys()
        for insn, callback in ((_MRS, self._on_read), (_MSR, self._on_write), (_SYS, self._on_sys)):
            self.uc.hook(uclib.HOOK_INSN, _HOOK(callback), 1, 0, insn)

    def _watch_code(self) -> None:
        idle = uclib.address_of(self.uc.lib.uc_arch_supported)
        for region in self._regions:
            self.uc.hook_address(uclib.HOOK_MEM_WRITE_PROT, idle, region.base, region.end - 1)

    def _user(self) -> bool:
        return not self.uc.read_register(r.PSTATE) >> 2 & 3

    def _on_read(self, _uc: int, number: int, record: ctypes.Array[r.System], _data: int) -> int:
        one = record[0]
        key = (one.op0, one.op1, one.crn, one.crm, one.op2)
        value = self._constants.get(key)
        if key in r.COUNTERS:
            value = self._owner.read_system(key)
        elif value is None:
            if key not in self._served or key in self._unknown or self._user():
                return 0
            value = self._owner.read_system(key)
        elif self._user():
            return 0
        self.uc.write_register(number, value)
        return 1

    def _on_write(self, _uc: int, _number: int, record: ctypes.Array[r.System], _data: int) -> int:
        one = record[0]
        key = (one.op0, one.op1, one.crn, one.crm, one.op2)
        if key not in self._served or key in self._unknown or self._user():
            return 0
        self._owner.write_system(key, one.value)
        return 1

    def _on_sys(self, _uc: int, _number: int, record: ctypes.Array[r.System], _data: int) -> int:
        """What the host has written is executed after an IC, and a barrier, which ends the block."""
        if self._stale and record[0].crn == _CACHES and record[0].crm in _INSTRUCTION:
            self._owner.leave_soon()
        return 0

    def _on_interrupt(self, _uc: int, number: int, _data: int) -> None:
        if not self._owner.on_exception(number):
            self._raised = number
            self.stop()

    # -- for the CPU that runs -------------------------------------------------------------------------

    @property
    def pc(self) -> int:
        return self.uc.read_register(r.PC)

    def masked(self) -> bool:
        """Whether the CPU takes no IRQ now."""
        return bool(self.uc.read_register(r.PSTATE) & _I)

    def set_line(self, level: bool) -> None:
        """An interrupt waits for the CPU that runs, or does not. On the engine's thread."""

    def stop(self) -> None:
        """Leave the guest. From a callback between instructions."""
        self.stopped = True
        self.uc.lib.uc_emu_stop(self.uc.handle)

    def leave_for_interrupt(self) -> bool:
        """From a callback at a block's start: the line is up, take the interrupt as soon as it can be ->
        False: not now, ask again."""
        if self.masked():
            return False
        self.stop()
        return True

    def run(self, count: int) -> int:
        """Go on with the guest -> UC_ERR_*."""
        self.stopped = False
        status = self.uc.run(self.pc, count)
        self._settle()
        return status

    def _settle(self) -> None:
        """Unicorn has been left: enter what was raised."""
        if self._raised is None:
            return
        number, self._raised = self._raised, None
        if number == UNDEFINED and self._emulate():
            return
        self._scratch.save()
        data = self._scratch.data()
        syndrome = int.from_bytes(data[self._syndrome : self._syndrome + 4], "little")
        address = int.from_bytes(data[self._address : self._address + 8], "little")
        where = address if number in exceptions.ABORTS else None
        exceptions.enter(self.uc, exceptions.SYNCHRONOUS, self.pc, syndrome, where)

    def _emulate(self) -> bool:
        """The instruction at PC, if it is MRS or MSR of a register that Unicorn has not."""
        code = int.from_bytes(self._owner.code_at(self.pc), "little")
        key = (2 | code >> 19 & 1, code >> 16 & 7, code >> 12 & 15, code >> 8 & 15, code >> 5 & 7)
        if code >> 22 != _MRS_MSR or key not in self._unknown or self._user():
            return False
        register = r.GENERAL[code & 31] if code & 31 < 31 else r.XZR
        if code >> 21 & 1:
            self.uc.write_register(register, self._owner.read_system(key))
        else:
            self._owner.write_system(key, self.uc.read_register(register))
        self.uc.write_register(r.PC, self.pc + 4)
        return True

    def enter_interrupt(self) -> None:
        """Before a run, the line being up."""
        if not self.masked():
            exceptions.enter(self.uc, exceptions.IRQ, self.pc)

    def wrote(self) -> None:
        """The host has written to guest memory; any thread. Guests say when they execute it."""
        self._stale = True

    def forget(self) -> None:
        """Any of the memory may have been written; nothing runs."""
        self._stale = False
        self.uc.flush_code()

    def refresh(self) -> None:
        """Nothing runs, and the guest has wanted what was written to be seen."""
        if self._stale:
            self.forget()

    def set_clock(self, offset: int) -> None:
        """The counter is the host's less so many ns."""

    def close(self) -> None:
        self._scratch.close()


@once
def _find_fault() -> tuple[int, int]:
    """Where the saved state has the syndrome and the address of a fault: found by raising two."""
    uc = r.new_cpu()
    scratch = Saved(uc)

    def on_interrupt(_uc: int, _number: int, _data: int) -> None:
        uc.lib.uc_emu_stop(uc.handle)

    page = mmap.mmap(-1, _PAGE)
    hold = ctypes.c_char.from_buffer(page)
    try:
        uc.map_ram(0, _PAGE, ctypes.addressof(hold))
        uc.hook(uclib.HOOK_INTR, uclib.INTR_HOOK(on_interrupt), 1, 0)
        page[: len(_FAULTS)] = _FAULTS
        uc.run(0)
        scratch.save()
        syndrome = scratch.data().find(_SYNDROME.to_bytes(4, "little"))
        # exclusive accesses have to be aligned: an abort that needs no tables
        uc.write_register(r.GENERAL[1], _UNALIGNED)
        uc.run(4)
        scratch.save()
        address = scratch.data().find(_UNALIGNED.to_bytes(8, "little"), syndrome)
    finally:
        scratch.close()
        uc.close()
        del hold
        page.close()
    if syndrome < 0 or not 0 < address - syndrome <= 16:
        raise EngineError("unicorn: the CPU's structure is not where it was")
    return syndrome, address

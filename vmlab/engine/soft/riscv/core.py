"""One Unicorn instance on which a machine's harts run by turns.

Where the instance's structures can be found, the hart's registers are read and written in place, traps are
entered by the library's own function, and interrupts are taken natively: a bit in QEMU's `interrupt_request`
makes the hart look at mip wherever it may take one. Elsewhere (`portable`) registers travel through Unicorn's
contexts, and traps and interrupts are entered by hand (`traps`).

Exceptions are reported with pc four further than the instruction, whatever its length, and every ECALL as one
from U mode.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from typing import Any, Protocol

from vmlab.engine.soft import uclib
from vmlab.engine.soft.context import Saved
from vmlab.engine.soft.riscv import traps
from vmlab.engine.soft.riscv.registers import State
from vmlab.engine.soft.uclib import Uc

__all__ = ["Core", "Owner"]

_SIZE = ctypes.c_size_t
_TIME = ctypes.CFUNCTYPE(ctypes.c_uint64)
# in QEMU's CPUState: interrupt_request, env_ptr, icount_decr_ptr, which lies before the former's target;
# where the host executes an access to a device
_REQUEST, _ENV, _ICOUNT, _ICOUNT_BEFORE, _MEM_IO_PC = 0x1C, 0x128, 0x130, 16, 0x8178
_HARD = 2
#: of the library's own functions
_INNER = (
    *("qemu_get_cpu", "riscv_cpu_do_interrupt", "riscv_cpu_set_rdtime_fn"),
    "cpu_restore_state",
)
#: of a counter in QEMU's icount_decr: leave the chain of blocks
_LEAVE = 0xFFFF
_ONLY_CPU = -1
#: UC_ERR_*: nothing lies where a load, a store, a fetch went -> the cause
_UNMAPPED = {6: 5, 7: 7, 8: 1}


class Owner(Protocol):
    """Who the hart that runs belongs to; called on the engine's thread, with the state up to date."""

    def on_exception(self, cause: int) -> bool:
        """Before it is entered -> whether it is done with: a call of the firmware, an emulated CSR."""
        ...

    def time(self) -> int:
        """The time CSR."""
        ...


class _Inside:
    """Addresses in an instance's structures; `known` False: they are not what this version has."""

    def __init__(self, uc: Uc, bits: int, size: int) -> None:
        self.known = False
        functions: list[Any] = [getattr(uc.lib, f"{name}_riscv{bits}", None) for name in _INNER]
        find, self.enter, self.set_time, self.locate = functions
        if None in functions or not sys.platform.startswith("linux"):
            return
        find.argtypes, find.restype = (_SIZE, ctypes.c_int), _SIZE
        self.enter.argtypes, self.enter.restype = (_SIZE,), None
        self.set_time.argtypes, self.set_time.restype = (_SIZE, _SIZE), None
        self.locate.argtypes, self.locate.restype = (_SIZE, _SIZE, ctypes.c_bool), ctypes.c_bool
        self.cpu = find(uc.handle, _ONLY_CPU)
        if not self.cpu or struct.calcsize("P") != 8:
            return
        self.env, counter = (
            ctypes.c_uint64.from_address(self.cpu + at).value for at in (_ENV, _ICOUNT)
        )
        if counter != self.env - _ICOUNT_BEFORE:
            return
        # the structure in place is what a context has of it
        saved = Saved(uc)
        self.known = saved.data()[:size] == ctypes.string_at(self.env, size)
        saved.close()


class Core:
    """`uc` with its RAM mapped. Nothing has run yet."""

    def __init__(self, uc: Uc, bits: int, owner: Owner, portable: bool) -> None:
        self.uc, self.bits, self._owner = uc, bits, owner
        #: this stay in the guest ends because somebody wanted it
        self.stopped = False
        #: the registers are being written: what is looked at meanwhile is that
        self._open = False
        self._scratch = Saved(uc)
        inside = _Inside(uc, bits, 8 * 32 * 2)
        self.native = inside.known and not portable
        if self.native:
            self._cpu, self._enter, self._locate = inside.cpu, inside.enter, inside.locate
            self._io = ctypes.c_size_t.from_address(inside.cpu + _MEM_IO_PC)
            self.state = State(inside.env, bits)
            self._request = ctypes.c_uint32.from_address(inside.cpu + _REQUEST)
            self._leave = ctypes.c_uint16.from_address(inside.env - _ICOUNT_BEFORE + 2)
            self._time = _TIME(owner.time)
            inside.set_time(inside.env, uclib.address_of(self._time))
        else:
            self.state = State(self._scratch.address, bits)
        uc.hook(uclib.HOOK_INTR, uclib.INTR_HOOK(self._on_interrupt), 1, 0)

    # -- the state -------------------------------------------------------------------------------------

    def look(self) -> State:
        """The registers as they are now, to be read or, until `commit`, written."""
        if not (self.native or self._open):
            self._scratch.save()
        return self.state

    @property
    def pc(self) -> int:
        return self.look()["pc"]

    def commit(self) -> None:
        """What was written is the hart's."""
        if not (self.native or self._open):
            self._scratch.restore()

    def drive(self, pending: int, owned: int) -> None:
        """The bits of mip that are driven from outside. On the engine's thread."""
        state = self.look()
        value = state["mip"] & ~owned | pending
        if value != state["mip"] or state["miclaim"] != owned:
            state["mip"], state["miclaim"] = value, owned
            self.commit()
        if self.native:
            self._request.value = self._request.value & ~_HARD | (_HARD if value else 0)

    def now(self) -> int:
        """From a callback of an access to a device, natively: where the instruction lies."""
        self._locate(self._cpu, self._io.value, False)
        return self.state["pc"]

    # -- for the hart that runs ------------------------------------------------------------------------

    def stop(self) -> None:
        """Leave the guest. From a callback between instructions."""
        self.stopped = True
        self.uc.lib.uc_emu_stop(self.uc.handle)

    def leave_for_interrupt(self) -> bool:
        """From a callback at a block's start: take what can be taken -> False: nothing can now."""
        if not traps.takeable(self.look()):
            return False
        if self.native:
            self._leave.value = _LEAVE
        else:
            self.stop()
        return True

    def run(self, count: int) -> int:
        """Go on with the guest -> UC_ERR_*."""
        self.stopped = False
        state = self.look()
        if not self.native and traps.interrupt(state):
            self.commit()
        status = self.uc.run(state["pc"], count)
        if status == uclib.ERR_INSN_INVALID:
            return self._trap(traps.BREAKPOINT)
        if status in _UNMAPPED:
            return self._trap(_UNMAPPED[status])
        return status

    def _trap(self, cause: int) -> int:
        """What Unicorn tells by a status, at the instruction."""
        state = self.look()
        traps.enter(state, cause, state["pc"])
        self.commit()
        self.stopped = True
        return uclib.ERR_OK

    def _on_interrupt(self, _uc: int, number: int, _data: int) -> None:
        state = self.look()
        state["pc"] = state["pc"] - 4 & (1 << self.bits) - 1
        cause = number + state["priv"] if number == traps.ECALL else number
        self._open = True
        done = self._owner.on_exception(cause)
        if not done and self.native:
            self._enter(self._cpu)
        elif not done:
            traps.enter(state, cause, state["badaddr"] if cause in traps.TVAL else 0)
        self._open = False
        self.commit()

    def close(self) -> None:
        self._scratch.close()

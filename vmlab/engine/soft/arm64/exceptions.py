"""Entry into an exception, where Unicorn only reports it (ARM DDI 0487, D1.3.1: to EL1)."""

from __future__ import annotations

from vmlab.engine.soft.arm64 import registers as r
from vmlab.engine.soft.uclib import Uc

__all__ = ["ABORTS", "IRQ", "SYNCHRONOUS", "enter"]

#: Unicorn's numbers (QEMU's EXCP_*) of prefetch and data abort, which have an address
ABORTS = (3, 4)
#: offsets in the vector table
SYNCHRONOUS, IRQ = 0x000, 0x080
_EL1H = 5
_DAIF = 0xF << 6
_MODE, _PAN = 0xF, 1 << 22
_SPAN = 1 << 23


def enter(
    uc: Uc, kind: int, pc: int, syndrome: int | None = None, address: int | None = None
) -> int:
    """Save the state, and go to EL1's vector for `kind` -> its address, the new PC."""
    state = uc.read_register(r.PSTATE) & 0xFFFF_FFFF
    level = state >> 2 & 3
    own_stack = state & 1
    # SP is the selected stack pointer's live copy
    uc.write_register(r.SP_EL1 if own_stack else r.SP_EL0, uc.read_register(r.SP))
    uc.write_register(r.SP, uc.read_register(r.SP_EL1))
    uc.write_register(r.ELR_EL1, pc)
    if address is not None:
        uc.write_register(r.FAR_EL1, address)
    if syndrome is not None:
        uc.write_register(r.ESR_EL1, syndrome)
    pan = state & _PAN if r.read_system(uc, r.SCTLR_EL1) & _SPAN else _PAN
    uc.write_register(r.PSTATE, _DAIF | _EL1H | pan)
    # last: writing a system register makes Unicorn look at the new state
    r.write_system(uc, r.SPSR_EL1, state)
    from_lower = 0x400 if not level else 0x200 if own_stack else 0
    target = uc.read_register(r.VBAR_EL1) + from_lower + kind
    uc.write_register(r.PC, target)
    return target

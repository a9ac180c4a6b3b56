"""Entry into traps, where Unicorn only reports them (RISC-V Privileged Architecture 1.12, §3.1.6 to
§3.1.15)."""

from __future__ import annotations

from typing import Final

from vmlab.engine.soft.riscv.registers import MACHINE, SUPERVISOR, State

__all__ = ["BREAKPOINT", "ECALL", "ILLEGAL", "TVAL", "enter", "interrupt", "takeable"]

#: causes; of an ECALL from U mode, S and M mode are 1 and 3 further
ILLEGAL, BREAKPOINT, ECALL = 2, 3, 8
#: those with an address in their xtval
TVAL: Final = frozenset((0, 1, 4, 5, 6, 7, 12, 13, 15))
# interrupts, by their bit in mip
SSIP, MSIP, STIP, MTIP, SEIP, MEIP = (1 << n for n in (1, 3, 5, 7, 9, 11))
#: which one is taken first (§3.1.9)
_ORDER: Final = (11, 3, 7, 9, 1, 5)
_SIE, _MIE, _SPIE, _MPIE, _SPP = 1 << 1, 1 << 3, 1 << 5, 1 << 7, 1 << 8
_MPP: Final = 3 << 11


def enter(state: State, cause: int, tval: int = 0, interrupts: bool = False) -> None:
    """Go to the handler, in the mode that it is delegated to."""
    mode, status, pc = state["priv"], state["mstatus"], state["pc"]
    delegated = state["mideleg" if interrupts else "medeleg"] >> cause & 1
    written = cause | interrupts << state.bits - 1
    if mode <= SUPERVISOR and delegated:
        status = status & ~(_SPIE | _SPP | _SIE) | (status & _SIE) << 4 | (mode & 1) << 8
        vector, letter, target = state["stvec"], "s", SUPERVISOR
    else:
        status = status & ~(_MPIE | _MPP | _MIE) | (status & _MIE) << 4 | mode << 11
        vector, letter, target = state["mtvec"], "m", MACHINE
    state["mstatus"] = status
    state[f"{letter}cause"], state[f"{letter}epc"] = written, pc
    state[f"{letter}tval"] = tval
    state["priv"] = target
    vectored = interrupts and vector & 1
    state["pc"] = (vector & ~3) + (4 * cause if vectored else 0)
    state["load_res"] = (1 << state.bits) - 1


def takeable(state: State) -> int:
    """The interrupts that the hart would take now (§3.1.6.1), as bits of mip."""
    pending = state["mip"] & state["mie"]
    if not pending:
        return 0
    mode, status, delegated = state["priv"], state["mstatus"], state["mideleg"]
    found = 0
    if mode < MACHINE or status & _MIE:
        found = pending & ~delegated
    if not found and (mode < SUPERVISOR or (mode == SUPERVISOR and status & _SIE)):
        found = pending & delegated
    return found


def interrupt(state: State) -> bool:
    """Take the most urgent one -> whether there was one."""
    found = takeable(state)
    for cause in _ORDER:
        if found >> cause & 1:
            enter(state, cause, interrupts=True)
            return True
    return False

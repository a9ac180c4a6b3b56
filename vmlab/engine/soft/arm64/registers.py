"""A CPU's registers by name, and what its identification registers say.

Numbers are those of `unicorn/arm64.h`, 2.1.4; system registers go by (op0, op1, CRn, CRm, op2), as in ARM
DDI 0487.
"""

from __future__ import annotations

import ctypes
from typing import Final

from vmlab.engine.soft import uclib
from vmlab.engine.soft.uclib import Uc
from vmlab.errors import EngineError

__all__ = [
    "COUNTERS",
    "GENERAL",
    "IDENTIFICATION",
    "NAMES",
    "SETTABLE",
    "Key",
    "System",
    "new_cpu",
    "read",
    "read_system",
    "write",
    "write_system",
]

Key = tuple[int, int, int, int, int]

_X0, _X29, _X30, _CP_REG = 199, 1, 2, 290
SP, PC, PSTATE, XZR = 4, 260, 265, 7
ELR_EL1, SP_EL0, SP_EL1, ESR_EL1, FAR_EL1, VBAR_EL1 = 267, 270, 271, 277, 281, 287
#: the registers that an instruction names by number 0 to 30
GENERAL: Final = (*range(_X0, _X0 + 29), _X29, _X30)
#: what a program sees -> Unicorn's number
_PLAIN: Final = {f"x{n}": number for n, number in enumerate(GENERAL)} | {
    "sp": SP,
    "pc": PC,
    "pstate": PSTATE,
}
SPSR_EL1: Final[Key] = (3, 0, 4, 0, 0)
SCTLR_EL1: Final[Key] = (3, 0, 1, 0, 0)
VMPIDR_EL2: Final[Key] = (3, 4, 0, 0, 5)
SCR_EL3: Final[Key] = (3, 6, 1, 1, 0)
HCR_EL2: Final[Key] = (3, 4, 1, 1, 0)
CNTVOFF_EL2: Final[Key] = (3, 4, 14, 0, 3)
CNTVCT_EL0: Final[Key] = (3, 3, 14, 0, 2)
CNTPCT_EL0: Final[Key] = (3, 3, 14, 0, 1)
COUNTERS: Final = (CNTVCT_EL0, CNTPCT_EL0)
_SYSTEM: Final[dict[str, Key]] = {
    "sctlr_el1": SCTLR_EL1,
    "ttbr0_el1": (3, 0, 2, 0, 0),
    "ttbr1_el1": (3, 0, 2, 0, 1),
    "tcr_el1": (3, 0, 2, 0, 2),
    "mair_el1": (3, 0, 10, 2, 0),
    "vbar_el1": (3, 0, 12, 0, 0),
    "elr_el1": (3, 0, 4, 0, 1),
    "spsr_el1": SPSR_EL1,
    "esr_el1": (3, 0, 5, 2, 0),
    "far_el1": (3, 0, 6, 0, 0),
    "sp_el0": (3, 0, 4, 1, 0),
    "tpidr_el0": (3, 3, 13, 0, 2),
    "tpidr_el1": (3, 0, 13, 0, 4),
}
NAMES: Final = (*_PLAIN, *_SYSTEM)
SETTABLE: Final = frozenset(_PLAIN)

#: (register, lowest bit, value of the 4-bit field): what Unicorn has no working half of is not shown, nor is
#: pointer authentication, which costs a kernel two thirds of its speed
IDENTIFICATION: Final[tuple[tuple[Key, int, int], ...]] = (
    # ID_AA64PFR0_EL1: EL2, EL3, SVE; CSV2, CSV3 (no speculation, so nothing to be protected from)
    ((3, 0, 0, 4, 0), 8, 0),
    ((3, 0, 0, 4, 0), 12, 0),
    ((3, 0, 0, 4, 0), 32, 0),
    ((3, 0, 0, 4, 0), 56, 1),
    ((3, 0, 0, 4, 0), 60, 1),
    # BT of ID_AA64PFR1_EL1
    ((3, 0, 0, 4, 1), 0, 0),
    # PMUVer of ID_AA64DFR0_EL1
    ((3, 0, 0, 5, 0), 8, 0),
    # ID_AA64ISAR1_EL1: APA, API, GPA, GPI
    ((3, 0, 0, 6, 1), 4, 0),
    ((3, 0, 0, 6, 1), 8, 0),
    ((3, 0, 0, 6, 1), 24, 0),
    ((3, 0, 0, 6, 1), 28, 0),
)
#: ID_AA64PFR0_EL1.GIC
GIC_FIELD: Final = ((3, 0, 0, 4, 0), 24)


class System(ctypes.Structure):
    """uc_arm64_cp_reg."""

    _fields_ = (
        ("crn", ctypes.c_uint32),
        ("crm", ctypes.c_uint32),
        ("op0", ctypes.c_uint32),
        ("op1", ctypes.c_uint32),
        ("op2", ctypes.c_uint32),
        ("value", ctypes.c_uint64),
    )


def _record(key: Key, value: int = 0) -> System:
    op0, op1, crn, crm, op2 = key
    return System(crn, crm, op0, op1, op2, value)


def read_system(uc: Uc, key: Key) -> int:
    """The register as it is stored, whatever the CPU may access now."""
    record = _record(key)
    if uc.lib.uc_reg_read(uc.handle, _CP_REG, ctypes.byref(record)):
        raise EngineError(f"unicorn: no system register {key}")
    return int(record.value)


def write_system(uc: Uc, key: Key, value: int) -> None:
    record = _record(key, value)
    if uc.lib.uc_reg_write(uc.handle, _CP_REG, ctypes.byref(record)):
        raise EngineError(f"unicorn: no system register {key}")


def read(uc: Uc, name: str) -> int:
    """One of `NAMES`."""
    return read_system(uc, _SYSTEM[name]) if name in _SYSTEM else uc.read_register(_PLAIN[name])


def write(uc: Uc, name: str, value: int) -> None:
    """One of `SETTABLE`."""
    uc.write_register(_PLAIN[name], value & (1 << 64) - 1)


def new_cpu() -> Uc:
    """An instance as a machine's CPU starts: EL1 and EL0 are of 64 bits, and nothing traps to EL2."""
    uc = Uc(uclib.ARCH_ARM64, uclib.MODE_ARM, uclib.CPU_MODEL_ARM64_MAX)
    write_system(uc, SCR_EL3, 0x5B1)
    write_system(uc, HCR_EL2, 1 << 31)
    return uc

"""A hart's registers, and where they are in the CPU's structure (QEMU's CPURISCVState, as in Unicorn 2.1.4).

The structure is read and written as it is: Unicorn's own functions obey the hart's privilege, fail in
silence, and know only some of the registers. `check` looks once whether it is laid out so.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

from vmlab.core.once import once
from vmlab.engine.soft import uclib
from vmlab.engine.soft.context import Saved
from vmlab.engine.soft.uclib import Uc
from vmlab.errors import EngineUnavailable

__all__ = ["State", "check", "new_hart", "offset"]

#: M, S and U mode
MACHINE, SUPERVISOR, USER = 3, 1, 0
_MODES: Final = {64: uclib.MODE_RISCV64, 32: uclib.MODE_RISCV32}
#: of each word size: field -> offset
_PLACES: Final[dict[int, dict[str, int]]] = {
    64: {
        "pc": 512,
        "load_res": 520,
        "badaddr": 544,
        "priv": 592,
        "mhartid": 616,
        "mstatus": 624,
        "mip": 632,
        "miclaim": 640,
        "mie": 648,
        "mideleg": 656,
        "satp": 672,
        "stval": 680,
        "mtval": 688,
        "medeleg": 696,
        "stvec": 704,
        "sepc": 712,
        "scause": 720,
        "mtvec": 728,
        "mepc": 736,
        "mcause": 744,
    },
    32: {
        "pc": 384,
        "load_res": 388,
        "badaddr": 400,
        "priv": 424,
        "mhartid": 436,
        "mstatus": 440,
        "mip": 444,
        "miclaim": 452,
        "mie": 456,
        "mideleg": 460,
        "satp": 468,
        "stval": 472,
        "mtval": 476,
        "medeleg": 480,
        "stvec": 484,
        "sepc": 488,
        "scause": 492,
        "mtvec": 496,
        "mepc": 500,
        "mcause": 504,
    },
}
#: those of 32 bits on either
_NARROW: Final = ("miclaim",)
#: Unicorn's number (unicorn/riscv.h) -> of a register that its functions can set
_X0, _PC, _MCOUNTEREN = 1, 190, 122
_NUMBERS: Final = {"mtvec": 121, "mepc": 128, "stvec": 137}


def offset(name: str, bits: int) -> int:
    """Where the CPU's structure has it, in bytes."""
    return _PLACES[bits][name]


class State:
    """The registers at an address: of the hart that runs, or of a saved one. Each is an int."""

    __slots__ = ("_fields", "bits", "x")

    def __init__(self, address: int, bits: int) -> None:
        word: Any = ctypes.c_uint64 if bits == 64 else ctypes.c_uint32
        self.bits = bits
        self.x = (word * 32).from_address(address)
        self._fields = {
            name: (ctypes.c_uint32 if name in _NARROW else word).from_address(address + at)
            for name, at in _PLACES[bits].items()
        }

    def __getitem__(self, name: str) -> int:
        return int(self._fields[name].value)

    def __setitem__(self, name: str, value: int) -> None:
        self._fields[name].value = value

    def read(self, name: str) -> int:
        """As the user names it."""
        return int(self.x[int(name[1:])]) if name[0] == "x" else self[name]

    def write(self, name: str, value: int) -> None:
        if name[0] != "x":
            self[name] = value
        elif name != "x0":
            self.x[int(name[1:])] = value


def new_hart(bits: int) -> Uc:
    """An instance, in M mode. Its counters may be read in S mode."""
    uc = Uc(uclib.ARCH_RISCV, _MODES[bits], uclib.CPU_MODEL_RISCV_SIFIVE)
    uc.write_register(_MCOUNTEREN, 7)
    return uc


@once
def check() -> None:
    """EngineUnavailable when the structure is not where it is expected. Done once a process."""
    for bits in _MODES:
        uc = new_hart(bits)
        saved = Saved(uc)
        try:
            if not _as_expected(uc, saved, bits):
                raise EngineUnavailable(
                    "this build of Unicorn has RISC-V registers at other places; install 2.1.4"
                )
        finally:
            saved.close()
            uc.close()


def _as_expected(uc: Uc, saved: Saved, bits: int) -> bool:
    if saved.size < max(_PLACES[bits].values()) + 8:
        return False
    marks = {f"x{n}": 0x5EED_0000 + 0x110 * n for n in range(1, 32)}
    marks |= {name: 0x5EED_8000 + 0x40 * n for n, name in enumerate((*_NUMBERS, "pc"))}
    for name, value in marks.items():
        uc.write_register(_number(name), value)
    saved.save()
    state = State(saved.address, bits)
    return state["priv"] == MACHINE and all(state.read(name) == marks[name] for name in marks)


def _number(name: str) -> int:
    if name == "pc":
        return _PC
    return _X0 + int(name[1:]) if name[0] == "x" else _NUMBERS[name]

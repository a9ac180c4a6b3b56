"""Registers as gdb numbers them, and the XML that tells it of them (GDB manual, appendix G).

What the standard features do not have, control registers for one, is in a feature of our own.
"""

from __future__ import annotations

from typing import NamedTuple

from vmlab.errors import ConfigError

__all__ = ["Register", "Target", "target"]


class Register(NamedTuple):
    """name: gdb's; bits; source: what `Engine.get_regs` calls it, "" where that does not have it."""

    name: str
    bits: int
    source: str
    type: str = ""


class Target(NamedTuple):
    """registers: in the order of their numbers. xml: the target description."""

    registers: tuple[Register, ...]
    xml: str


_X87 = (
    *(Register(f"st{n}", 80, "", "i387_ext") for n in range(8)),
    *(
        Register(name, 32, "", "int")
        for name in ("fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop")
    ),
)
_X86 = (
    *(
        Register(name, 64, name, "data_ptr" if name in ("rbp", "rsp") else "int64")
        for name in ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp")
    ),
    *(Register(f"r{n}", 64, f"r{n}", "int64") for n in range(8, 16)),
    Register("rip", 64, "rip", "code_ptr"),
    Register("eflags", 32, "rflags", "int"),
    *(Register(name, 32, name, "int") for name in ("cs", "ss", "ds", "es", "fs", "gs")),
    *_X87,
)
_ARM64 = (
    *(Register(f"x{n}", 64, f"x{n}", "int") for n in range(31)),
    Register("sp", 64, "sp", "data_ptr"),
    Register("pc", 64, "pc", "code_ptr"),
    Register("cpsr", 32, "pstate", "int"),
)
_RISCV_NAMES = (
    *("zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "fp", "s1"),
    *(f"a{n}" for n in range(8)),
    *(f"s{n}" for n in range(2, 12)),
    *(f"t{n}" for n in range(3, 7)),
)


def _riscv(bits: int) -> tuple[Register, ...]:
    kinds = {
        "ra": "code_ptr",
        "sp": "data_ptr",
        "gp": "data_ptr",
        "tp": "data_ptr",
        "fp": "data_ptr",
    }
    return (
        *(
            Register(name, bits, f"x{n}", kinds.get(name, "int"))
            for n, name in enumerate(_RISCV_NAMES)
        ),
        Register("pc", bits, "pc", "code_ptr"),
    )


#: architecture -> (gdb's name of it, the standard feature, its registers, bits of the others)
_KNOWN = {
    "x86_64": ("i386:x86-64", "org.gnu.gdb.i386.core", _X86, 64),
    "arm64": ("aarch64", "org.gnu.gdb.aarch64.core", _ARM64, 64),
    "riscv64": ("riscv:rv64", "org.gnu.gdb.riscv.cpu", _riscv(64), 64),
    "riscv32": ("riscv:rv32", "org.gnu.gdb.riscv.cpu", _riscv(32), 32),
}


def target(arch: str, registers: tuple[str, ...]) -> Target:
    """registers: all that the architecture shows."""
    if arch not in _KNOWN:
        raise ConfigError(f"gdb is not served for {arch} machines")
    name, feature, core, bits = _KNOWN[arch]
    shown = {one.source for one in core}
    more = tuple(Register(one, bits, one) for one in registers if one not in shown)
    lines = [
        '<?xml version="1.0"?>',
        '<!DOCTYPE target SYSTEM "gdb-target.dtd">',
        '<target version="1.0">',
        f"<architecture>{name}</architecture>",
        *_feature(feature, core, 0),
        *_feature("org.vmlab.system", more, len(core)),
        "</target>",
    ]
    return Target((*core, *more), "\n".join(lines) + "\n")


def _feature(name: str, registers: tuple[Register, ...], first: int) -> list[str]:
    lines = [f'<feature name="{name}">']
    for number, one in enumerate(registers, first):
        kind = f' type="{one.type}"' if one.type else ""
        group = "" if one.type else ' group="system"'
        lines.append(
            f'<reg name="{one.name}" bitsize="{one.bits}" regnum="{number}"{kind}{group}/>'
        )
    return [*lines, "</feature>"]

"""Bits of registers by name (Intel SDM 3A, 2.3, 2.5, 2.2.1), and the mode that code runs in."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["FLAGS", "code_mode"]

_LMA, _PE = 1 << 10, 1

FLAGS = {
    "rflags": (
        *((0, "CF"), (2, "PF"), (4, "AF"), (6, "ZF"), (7, "SF"), (8, "TF"), (9, "IF"), (10, "DF")),
        *((11, "OF"), (14, "NT"), (16, "RF"), (17, "VM"), (18, "AC"), (21, "ID")),
    ),
    "cr0": (
        *((0, "PE"), (1, "MP"), (2, "EM"), (3, "TS"), (4, "ET"), (5, "NE"), (16, "WP"), (18, "AM")),
        *((29, "NW"), (30, "CD"), (31, "PG")),
    ),
    "cr4": (
        *((0, "VME"), (1, "PVI"), (2, "TSD"), (3, "DE"), (4, "PSE"), (5, "PAE"), (6, "MCE")),
        *((7, "PGE"), (8, "PCE"), (9, "OSFXSR"), (10, "OSXMMEXCPT"), (11, "UMIP"), (12, "LA57")),
        *(
            (16, "FSGSBASE"),
            (17, "PCIDE"),
            (18, "OSXSAVE"),
            (20, "SMEP"),
            (21, "SMAP"),
            (22, "PKE"),
        ),
    ),
    "efer": ((0, "SCE"), (8, "LME"), (10, "LMA"), (11, "NXE")),
}


def code_mode(regs: Mapping[str, int]) -> str:
    """ "x86-64", "x86-32" or "x86-16". Code segments of another size than the mode's are not told apart."""
    if regs["efer"] & _LMA:
        return "x86-64"
    return "x86-32" if regs["cr0"] & _PE else "x86-16"

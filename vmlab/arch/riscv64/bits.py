"""Bits of registers by name (RISC-V privileged architecture, 3.1.6, 3.1.9)."""

from __future__ import annotations

__all__ = ["FLAGS"]

_LINES = ((1, "SSI"), (3, "MSI"), (5, "STI"), (7, "MTI"), (9, "SEI"), (11, "MEI"))

FLAGS = {
    "mstatus": (
        *((1, "SIE"), (3, "MIE"), (5, "SPIE"), (7, "MPIE"), (8, "SPP"), (17, "MPRV"), (18, "SUM")),
        *((19, "MXR"), (20, "TVM"), (21, "TW"), (22, "TSR")),
    ),
    "mie": _LINES,
    "mip": _LINES,
    "mideleg": _LINES,
}

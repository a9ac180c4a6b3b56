"""What ARM's PrimeCell peripherals have in common: they say who they are, at the end of their page."""

from __future__ import annotations

from vmlab.regs import Register, bits, ro

__all__ = ["CELL_ID", "peripheral_id"]

_DESIGNER_ARM = 0x41


def _bytes(offset: int, value: int, doc: str) -> list[Register]:
    """Four registers with a byte of `value` each, the lowest first."""
    return [
        ro(offset + 4 * n, doc, reset=value >> 8 * n & 0xFF, BYTE=bits(0, 8, f"byte {n} of four"))
        for n in range(4)
    ]


def peripheral_id(part: int, revision: int) -> list[Register]:
    """PERIPH_ID0 to 3."""
    value = part | _DESIGNER_ARM << 12 | revision << 20
    return _bytes(0xFE0, value, "which peripheral: part, designer, revision")


#: PRIMECELL_ID0 to 3
CELL_ID = _bytes(0xFF0, 0xB105_F00D, "that it is a PrimeCell")

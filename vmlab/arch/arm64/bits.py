"""Bits of registers by name (Arm ARM, C5.2, D19.2 SCTLR_EL1)."""

from __future__ import annotations

__all__ = ["FLAGS"]

_STATE = (
    *((31, "N"), (30, "Z"), (29, "C"), (28, "V"), (22, "PAN"), (21, "SS"), (20, "IL")),
    *((9, "D"), (8, "A"), (7, "I"), (6, "F")),
)

FLAGS = {
    "pstate": _STATE,
    "spsr_el1": _STATE,
    "sctlr_el1": ((0, "M"), (1, "A"), (2, "C"), (3, "SA"), (12, "I"), (19, "WXN"), (25, "EE")),
}

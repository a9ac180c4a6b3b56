"""Register tables: a device's registers, declared once.

Dispatch, counters, the tracer, `peek`, the views and the reference pages all read the table that a
device declares here. Nothing else decodes an offset.
"""

from vmlab.regs.table import (
    Field,
    Register,
    Registers,
    bit,
    bits,
    block,
    pair64,
    rc,
    ro,
    rw,
    w1c,
    wo,
)

__all__ = [
    "Field",
    "Register",
    "Registers",
    "bit",
    "bits",
    "block",
    "pair64",
    "rc",
    "ro",
    "rw",
    "w1c",
    "wo",
]

"""Register tables: a device's registers, declared once.

Dispatch, counters, the tracer, `peek`, the views and the reference pages all read the table that a
device declares here. Nothing else decodes an offset.
"""

from vmlab.regs.table import (
    Field,
    Register,
    Registers,
    array,
    bit,
    bits,
    block,
    pair64,
    rc,
    reserved,
    ro,
    rw,
    w1c,
    w1s,
    wo,
)

__all__ = [
    "Field",
    "Register",
    "Registers",
    "array",
    "bit",
    "bits",
    "block",
    "pair64",
    "rc",
    "reserved",
    "ro",
    "rw",
    "w1c",
    "w1s",
    "wo",
]

"""A device's failure at an access, in words."""

from __future__ import annotations

from vmlab.core.bus import Fault as BusFault
from vmlab.core.safely import text_of, trace_of
from vmlab.machine.config import Fault

__all__ = ["failure"]


def failure(fault: BusFault) -> Fault:
    name = fault.range.name
    what = "reading" if fault.value is None else f"writing {fault.value:#x} to"
    register = fault.range.register_at(fault.address, fault.size, fault.value is not None)
    text = (
        f"device {name!r} failed at {fault.address:#x} ({what} {register or 'no register'}):"
        f" {text_of(fault.error)}"
    )
    return Fault(name, text, trace_of(fault.error))

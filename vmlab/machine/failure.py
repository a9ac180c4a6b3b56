"""A device's failure at an access, in words."""

from __future__ import annotations

from vmlab.core.bus import Fault as BusFault
from vmlab.core.safely import text_of, trace_of
from vmlab.machine.config import Exit, Fault

__all__ = ["RESET_FAILED", "failure", "reset_failed"]

#: `Exit.reason` of a machine whose reset has raised
RESET_FAILED = "reset-failed"


def failure(fault: BusFault) -> Fault:
    name = fault.range.name
    what = "reading" if fault.value is None else f"writing {fault.value:#x} to"
    register = fault.range.register_at(fault.address, fault.size, fault.value is not None)
    text = (
        f"device {name!r} failed at {fault.address:#x} ({what} {register or 'no register'}):"
        f" {text_of(fault.error)}"
    )
    return Fault(name, text, trace_of(fault.error))


def reset_failed(error: BaseException, device: str) -> Exit:
    """device: whose reset has raised; "" when it was none's."""
    hint = f"; hot_remove({device!r}, force=True) takes it out, then reset() again"
    return Exit(RESET_FAILED, 3, f"the reset failed: {text_of(error)}{hint if device else ''}")

"""vmlab: a virtual machine that you can see through.

from vmlab import VM
with VM(kernel="monitor") as vm:
    vm.console.expect("vmlab> ")
    print(vm.traps)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vmlab import kernels
    from vmlab.core.device import Device, command, on_peek, on_read, on_write
    from vmlab.regs import (
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
    from vmlab.vm import VM
    from vmlab.vm.board import Board, Placed
    from vmlab.vm.trace import load_trace

__version__ = "0.1.0"

_REGS = (
    *("Registers", "array", "bit", "bits", "block", "pair64", "rc", "reserved", "ro", "rw", "w1c"),
    *("w1s", "wo"),
)
_DEVICE = ("Device", "command", "on_peek", "on_read", "on_write")
_HOME = {
    "VM": "vmlab.vm.vm",
    "load_trace": "vmlab.vm.trace",
    **dict.fromkeys(("Board", "Placed"), "vmlab.vm.board"),
    **dict.fromkeys(_REGS, "vmlab.regs"),
    **dict.fromkeys(_DEVICE, "vmlab.core.device"),
}

__all__ = [
    "VM",
    "Board",
    "Device",
    "Placed",
    "Registers",
    "array",
    "bit",
    "bits",
    "block",
    "command",
    "kernels",
    "load_trace",
    "on_peek",
    "on_read",
    "on_write",
    "pair64",
    "rc",
    "reserved",
    "ro",
    "rw",
    "w1c",
    "w1s",
    "wo",
]


def __getattr__(name: str) -> Any:
    if name == "kernels":
        return import_module("vmlab.kernels")
    if name not in _HOME:
        raise AttributeError(f"module 'vmlab' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def load_ipython_extension(shell: Any) -> None:
    """`%load_ext vmlab`: the cell magic `%%guest`."""
    import_module("vmlab.notebook.magic").load(shell)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

"""For tests of one's own devices: a driver without a guest, a machine's socket, a KVM without KVM.

from vmlab.testing import Driver        # drives a VirtioDevice; see vmlab.testing.driver
from vmlab.testing import Socket        # gives any Device what a machine would
from vmlab.testing import Check         # the check of an exercise, in a notebook
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vmlab.testing.checking import Check, Wrong
    from vmlab.testing.driver import Driver, DriverError
    from vmlab.testing.plug import Socket

__all__ = ["Check", "Driver", "DriverError", "Socket", "Wrong"]

_HOME = {
    "Check": "checking",
    "Driver": "driver",
    "DriverError": "driver",
    "Socket": "plug",
    "Wrong": "checking",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'vmlab.testing' has no attribute {name!r}")
    value = getattr(import_module(f"vmlab.testing.{_HOME[name]}"), name)
    globals()[name] = value
    return value

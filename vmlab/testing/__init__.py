"""For tests of one's own devices: a driver without a guest, a device without a machine, KVM without KVM.

from vmlab.testing import Driver        # drives a VirtioDevice; see vmlab.testing.driver
from vmlab.testing import DeviceHarness  # gives any Device what a machine would
from vmlab.testing import ManualClock   # a clock that moves when it is told
from vmlab.testing import Check         # the check of an exercise, in a notebook
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vmlab.renamed import renamed

if TYPE_CHECKING:
    from vmlab.testing.checking import Check, Wrong
    from vmlab.testing.clock import ManualClock
    from vmlab.testing.driver import Driver, DriverError
    from vmlab.testing.harness import DeviceHarness

__all__ = ["Check", "DeviceHarness", "Driver", "DriverError", "ManualClock", "Wrong"]

_HOME = {
    "Check": "checking",
    "Driver": "driver",
    "DriverError": "driver",
    "DeviceHarness": "harness",
    "ManualClock": "clock",
    "Wrong": "checking",
}

_RENAMED = {"Socket": "DeviceHarness"}


def __getattr__(name: str) -> Any:
    name = renamed("vmlab.testing", _RENAMED, name) or name
    if name not in _HOME:
        raise AttributeError(f"module 'vmlab.testing' has no attribute {name!r}")
    value = getattr(import_module(f"vmlab.testing.{_HOME[name]}"), name)
    globals()[name] = value
    return value

"""The dashboard: everything that can be seen of a machine, in one cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmlab.notebook.console import ConsolePart
from vmlab.notebook.hotplug import HotplugPart
from vmlab.notebook.pump import PUMP, Pump
from vmlab.notebook.screen import ScreenPart
from vmlab.notebook.view import STATIC

if TYPE_CHECKING:
    from vmlab.vm import VM

__all__ = ["Lab", "lab_of"]


class Lab(ConsolePart, HotplugPart, ScreenPart):
    """One view that holds all of them, so that it works wherever a widget does; `vm.lab()`.

    height: in pixels, when it is wide enough for two columns."""

    _esm = STATIC / "lab.js"
    parts = ("map", "devices", "irqs", "registers", "log")

    def __init__(self, vm: VM, height: int = 620, *, pump: Pump = PUMP) -> None:
        super().__init__(vm, pump=pump, height=int(height))


def lab_of(vm: VM) -> Lab:
    """The dashboard that a bare `vm` shows: one for each VM, however often it is shown."""
    found = vm.__dict__.get("_lab")
    if not isinstance(found, Lab) or found._closed:
        found = vm.__dict__["_lab"] = Lab(vm)
    return found

"""The devices and their traps; a row opens to its registers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmlab.notebook import html
from vmlab.notebook.controls import ControlsPart
from vmlab.notebook.view import STATIC

if TYPE_CHECKING:
    from vmlab.vm import VM

__all__ = ["TrapView"]


class TrapView(ControlsPart):
    """A table of counts, rates and the last seconds; `vm.trap_view()`."""

    _esm = STATIC / "traps.js"
    parts = ("devices", "registers")

    def fallback(self, vm: VM) -> str:
        return html.devices_table(vm)

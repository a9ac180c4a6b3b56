"""The interrupt lines: a lamp each, with who holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmlab.notebook import html
from vmlab.notebook.view import STATIC, View

if TYPE_CHECKING:
    from vmlab.vm import VM

__all__ = ["IrqView"]


class IrqView(View):
    """A row of lamps; one flashes when its line is raised; `vm.irq_view()`."""

    _esm = STATIC / "irq.js"
    parts = ("irqs",)

    def fallback(self, vm: VM) -> str:
        return html.irq_table(vm)

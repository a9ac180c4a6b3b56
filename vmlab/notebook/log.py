"""The device log: what devices print while no cell runs, what guests do wrong, what failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmlab.notebook import html
from vmlab.notebook.snapshot import entries
from vmlab.notebook.view import STATIC, View

if TYPE_CHECKING:
    from vmlab.vm import VM

__all__ = ["LogView"]


class LogView(View):
    """The newest entries of `vm.log`; `vm.log_view()`."""

    _esm = STATIC / "log.js"
    parts = ("log",)

    def fallback(self, vm: VM) -> str:
        rows: list[list[object]] = [
            [one["device"], one["kind"], one["text"]] for one in entries(vm)["entries"]
        ]
        return html.table("Device log", ["device", "kind", "text"], rows)

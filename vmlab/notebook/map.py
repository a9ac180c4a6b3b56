"""The address map: every range of the guest's physical space, to scale where it can be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmlab.notebook import html
from vmlab.notebook.view import STATIC, View

if TYPE_CHECKING:
    from vmlab.vm import VM

__all__ = ["MapView"]


class MapView(View):
    """A vertical strip, low addresses at the bottom; `vm.map_view()`."""

    _esm = STATIC / "map.js"
    parts = ("map", "devices")

    def fallback(self, vm: VM) -> str:
        return html.map_picture(vm)

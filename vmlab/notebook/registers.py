"""One device's registers: names, fields, values without side effects, last accesses."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from vmlab.errors import DeviceNotFound
from vmlab.hints import unknown
from vmlab.notebook import html
from vmlab.notebook.pump import PUMP, Pump
from vmlab.notebook.snapshot import Snapshot
from vmlab.notebook.view import STATIC, Client, Message, View

if TYPE_CHECKING:
    from vmlab.vm import VM

__all__ = ["RegistersView"]


class RegistersView(View):
    """The register table of the device `id`; `vm.regs_view("com1")`. DeviceNotFound without one."""

    _esm = STATIC / "registers.js"
    parts = ("registers",)

    def __init__(self, vm: VM, id: str, *, pump: Pump = PUMP) -> None:
        devices = vm.devices
        if id not in devices:
            raise DeviceNotFound(unknown("device", id, devices))
        self._id = id
        super().__init__(vm, pump=pump)

    def content(self, look: Snapshot) -> dict[str, Any]:
        # what another view has open is none of this one's business
        registers = {id: one for id, one in look.registers.items() if id == self._id}
        devices = [one for one in look.devices if one["id"] == self._id]
        return {"id": self._id, "registers": registers, "devices": devices}

    def page_seen(self, client: Client, message: Message) -> None:
        client.opened = frozenset({self._id})
        super().page_seen(client, message)

    def page_open(self, client: Client, message: Message) -> None:
        """Always this one device."""

    def fallback(self, vm: VM) -> str:
        device = vm.devices.get(self._id)
        if device is None:
            return f"<p>{escape(self._id)}: no such device any more</p>"
        counts = device.counts.registers
        rows: list[list[object]] = [
            [one.name, f"{one.offset:#x}", one.width, one.access, reg.reads, reg.writes, one.doc]
            for one in device.registers
            if (reg := counts.get(one.name)) is not None
        ]
        head = ["register", "offset", "bits", "access", "reads", "writes", "what"]
        return html.table(f"Registers of {self._id}", head, rows)

"""Devices that are plugged into a machine, taken out of it, and replaced."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

from vmlab.core.away import place_of
from vmlab.errors import ExpectTimeout
from vmlab.machine.config import ENDED
from vmlab.monitor import wire
from vmlab.virtio.device import VirtioDevice
from vmlab.vm.board import check_place
from vmlab.vm.copies import AnyDevice, check_device
from vmlab.vm.inspection import Inspection
from vmlab.vm.views import DeviceView, gone, id_of
from vmlab.vm.waiting import Looks, wait_until

__all__ = ["Plugging"]


class Plugging:
    """See `VM.hot_add`, `VM.hot_remove` and `VM.replace`."""

    def __init__(self, inspection: Inspection) -> None:
        self._seen, self._connection = inspection, inspection.connection

    def add(
        self, device: AnyDevice, id: str | None, at: int | None, irq: int | None, wait: float
    ) -> DeviceView:
        check_device(device)
        check_place(at, irq)
        session = self._connection.up()
        linux = isinstance(device, VirtioDevice) and self._connection.linux
        answers = self._answers() if linux else 0
        parcel = session.parcel(device)
        added: str = self._connection.call(wire.HotAdd(parcel, id, at, irq)).id
        self._connection.has_come(added, device, parcel)
        if linux:
            with contextlib.suppress(ExpectTimeout):
                wait_until(Looks(lambda: self._is_taken(added, answers), wait))
        return self._view(added, device)

    def remove(self, id: str, force: bool) -> None:
        id = id_of(id, "hot_remove")
        connection = self._connection
        connection.call(wire.HotRemove(id, force))
        connection.cured(id, "removed")
        connection.has_left(id)
        for known in [place for place in list(connection.consoles_by_place) if place[0] == id]:
            del connection.consoles_by_place[known]

    def replace(self, id: str, device: AnyDevice | None, force: bool) -> DeviceView:
        id = id_of(id, "replace")
        connection = self._connection
        session = connection.up()
        if device is None:
            device = connection.copies.newest(id)
        else:
            check_device(device)
        # one that is in the machine already goes as what it was before: two parcels of it are alike
        parcel = session.parcel(device if place_of(device) is None else copy.copy(device))
        connection.call(wire.Replace(id, parcel, force), fault=False)
        connection.cured(id, "replaced")
        connection.has_come(id, device, parcel)
        return self._view(id, device)

    def tell(self, id: str, method: str, /, *arguments: Any, **options: Any) -> Any:
        return self._connection.tell(id_of(id, "tell"), method, *arguments, **options)

    def _view(self, id: str, device: AnyDevice) -> DeviceView:
        """Of the device that has just come; by now another thread may have taken it out again."""
        view = self._seen.devices.get(id)
        if view is None:
            connection = self._connection
            if connection.session is not None and connection.state not in ENDED:
                connection.has_left(id)
            view = gone(connection, id, device.type)
        return view

    def _answers(self) -> int:
        """How often Linux has said, by ACPI, that it has done with an event."""
        return self._seen.traps["hotplug"].registers["OST"].writes

    def _is_taken(self, id: str, answers: int) -> bool:
        """Whether a driver has the device, and the guest is done with what that brings, such as nodes."""
        view = self._seen.devices.get(id)
        if view is None or self._connection.state != "running":
            return True
        config = self._connection.config
        without_acpi = config.slots or config.platform.transports
        done = bool(without_acpi) or self._answers() > answers
        return done and view.state in ("driver_ok", "failed")

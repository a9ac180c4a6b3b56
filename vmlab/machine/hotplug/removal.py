"""The guest's consent to a removal: asked for, waited for, and what is said when it does not come."""

from __future__ import annotations

import threading
import time

from vmlab.core.counters import DeviceState
from vmlab.core.device import Device
from vmlab.core.patience import Patient
from vmlab.devices.hotplug import HotPlug
from vmlab.errors import StateError
from vmlab.machine.hotplug.stale import retired

__all__ = ["Removals"]

#: seconds that a guest has to let a device go
CONSENT = 5.0
#: seconds without an access after which a driver that has reset its device is done with it: long, for a
#: busy host may keep the guest from running, and a guest that tells of it need not wait
QUIET = 2.0


class Removals:
    """quiet: held by whoever plugs, unplugs or resets devices."""

    def __init__(self, hotplug: HotPlug, quiet: Patient) -> None:
        self._hotplug, self._quiet = hotplug, quiet
        self._consents: dict[int, threading.Event] = {}
        hotplug.on_released(self._released)

    def request(self, id: str, device: Device, slot: int) -> bool:
        """Ask the guest for the device in that slot. True: it has let it go. False: there is no guest that
        would have to. StateError when it does not, or does not listen."""
        counters = device.counters
        before = counters.state
        if before == DeviceState.ADDED and not counters.counts().traps:
            return False
        if not self._hotplug.watched:
            if before in (DeviceState.DRIVER_OK, DeviceState.FAILED):
                raise StateError(
                    f"the guest uses {id!r} and does not listen to the hot-plug controller;"
                    " force=True takes it out under it"
                )
            return False
        with self._quiet:
            if slot in self._consents:
                raise StateError(f"{id!r} is being removed already")
            consent = self._consents[slot] = threading.Event()
        try:
            self._hotplug.ask_removal(slot)
            if not self._wait_for_consent(slot, device, consent):
                # a reset of the machine meanwhile has put the state right itself
                if counters.state == DeviceState.REMOVING:
                    counters.state = before
                done = retired(device) if self._hotplug.acpi else ""
                raise StateError(
                    f"the guest has not let {id!r} go within {CONSENT:g} s; {done}"
                    "force=True takes it out"
                )
        finally:
            with self._quiet:
                del self._consents[slot]
        return True

    def _wait_for_consent(self, slot: int, device: Device, consent: threading.Event) -> bool:
        """Wait for the guest's word, or for its driver to have reset the device and to be quiet."""
        end, since, seen = time.monotonic() + CONSENT, 0.0, -1
        while not consent.wait(QUIET / 20):
            now = time.monotonic()
            traps = device.counters.counts().traps
            if not self._hotplug.is_unbound(slot) or traps != seen:
                since, seen = now, traps
            elif now - since >= QUIET:
                return True
            if now >= end:
                return False
        return True

    def _released(self, slot: int) -> None:
        consent = self._consents.get(slot)
        if consent is not None:
            consent.set()

"""Taking a device out of code of its own that does not return."""

from __future__ import annotations

import threading
import time

from vmlab.core.device import Device
from vmlab.core.patience import Taken, holding, waited
from vmlab.errors import StateError
from vmlab.machine.busy import Watch

__all__ = ["Force"]

#: seconds between two looks at a call that is waited for
SOON = 0.02
#: seconds that an access waits for the device's successor
LEAVING = 10.0


class Force:
    """`used`: held while a device is taken out by force, from the expulsion to its successor's arrival."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self.used = threading.RLock()

    def must_rest(self, id: str, device: Device) -> None:
        """A call of its code that is under way is waited for, but not for ever."""

        def blame() -> str:
            words = self._watch.words(id)
            return f"{words}; force=True takes it out of that" if words else ""

        what = f"{id!r} cannot be taken out"
        with holding(device.lock, blame, what):
            calls = self._watch.under_way(id)

        def over(seconds: float) -> bool:
            end = time.monotonic() + seconds
            while not (rests := self._watch.over(calls)) and time.monotonic() < end:
                time.sleep(SOON)
            return rests

        if words := waited(over, blame):
            raise StateError(f"{what}: {words}")

    def expel(self, id: str) -> bool:
        """Whoever is stuck in the device's code is thrown out of it. Whether anybody was."""
        try:
            return self._watch.expel(id, Taken)
        except TimeoutError as error:
            raise StateError(
                f"{id!r} cannot be taken out: {error}, which nothing interrupts (the code of an"
                " extension, or it catches every exception); stop() ends the machine"
            ) from None

    def await_successor(self) -> None:
        """On the thread that was thrown out: wait until the device is gone, or another is there."""
        if self.used.acquire(timeout=LEAVING):
            self.used.release()

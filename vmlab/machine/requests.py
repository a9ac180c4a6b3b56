"""What a guest asks of its machine: to end, to begin anew. It is done when no vCPU executes any more."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from vmlab.core.bus import Bus
from vmlab.core.log import Log
from vmlab.core.patience import LOOK, Patient, waited
from vmlab.engine.api import Engine
from vmlab.errors import StateError

__all__ = ["GuestRequests"]

log = Log(__name__)


class GuestRequests:
    """The first request counts; what the guest does from there on is not heard, until it is powered on again.

    control: held by whoever takes the machine from one state to another; lock: guards its fields;
    blame: who keeps a vCPU from stopping, in words.
    """

    def __init__(
        self,
        control: Patient,
        lock: AbstractContextManager[Any],
        engine: Engine,
        buses: tuple[Bus, ...],
        blame: Callable[[], str],
    ) -> None:
        self._control, self._lock = control, lock
        self._engine, self._buses, self._blame = engine, buses, blame
        self._pending: tuple[Callable[[], None], AbstractContextManager[Any]] | None = None
        self._closed = False
        #: the guest does nothing to this machine
        self.muted = False

    def mute(self) -> None:
        with self._lock:
            self.muted = True
            for bus in self._buses:
                bus.mute()

    def unmute(self) -> None:
        self.muted = False
        for bus in self._buses:
            bus.unmute()

    def close(self) -> None:
        """Nothing is carried out any more."""
        self._closed = True

    def ask(
        self, action: Callable[[], None], under: AbstractContextManager[Any] | None = None
    ) -> None:
        """On a vCPU's thread: do that, holding `under`, when no vCPU executes and every access is counted."""
        with self._lock:
            if self.muted:
                return
            self.mute()
            self._pending = action, under or contextlib.nullcontext()
        self._engine.request_pause()
        threading.Thread(target=self._carry_out_soon, name="vmlab-request", daemon=True).start()

    def _carry_out_soon(self) -> None:
        while True:
            try:
                with self._control:
                    self.carry_out()
                return
            except (
                StateError
            ):  # a device's code keeps a vCPU: until it is taken out, or the machine ends
                if self._closed:
                    return
                time.sleep(LOOK)
            except BaseException:  # the machine's exit says it; nobody waits for this thread
                log.exception("what the guest asked for has failed")
                return

    def carry_out(self) -> None:
        """Do what waits to be done (`control` is held)."""
        pending = self._pending
        if pending is None or self._closed:
            return
        if words := waited(self._engine.pause, self._blame):
            raise StateError(f"the machine cannot do what the guest asked for: {words}")
        action, under = pending
        # what a device's code keeps from being done stays to be done
        with under:
            self._pending = None
            action()

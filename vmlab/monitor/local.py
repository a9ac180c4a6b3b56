"""A machine in this process, for debugging and for the command line: no boundary, the same commands."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Protocol

from vmlab.arch import DEFAULT
from vmlab.core.counters import CounterPage
from vmlab.core.device import Device
from vmlab.core.log import Log
from vmlab.core.memory import GuestMemory
from vmlab.core.once import once
from vmlab.errors import VmlabError
from vmlab.monitor import wire
from vmlab.virtio.device import VirtioDevice

__all__ = ["COMMAND_TIMEOUT", "PAUSE_TIMEOUT", "LocalSession", "Session"]

log = Log(__name__)

#: seconds that a machine has for one command; the longest is a reset of a large guest
COMMAND_TIMEOUT = 60.0
#: the same for a pause, which a device's code may keep from happening
PAUSE_TIMEOUT = 3.0


class Session(Protocol):
    """How a VM object reaches its machine."""

    memory: GuestMemory
    page: CounterPage
    pid: int

    def parcel(self, device: Device | VirtioDevice) -> bytes:
        """The device, as commands carry it."""
        ...

    def call(self, command: wire.Command, timeout: float = COMMAND_TIMEOUT) -> Any:
        """The reply; the exception that the command ended with."""
        ...

    def close(self, stuck: bool = False) -> None:
        """`stuck`: a device's code does not return; nothing waits for that long."""
        ...


@once
def _guard_forks() -> None:
    """Once a process: a hook cannot be taken back."""
    from vmlab.monitor import forks

    forks.guard()


class LocalSession:
    """The machine in this process (`VM(isolate=False)`)."""

    def __init__(
        self, memory_size: int, tell: Callable[[wire.Event], None], arch: str = DEFAULT
    ) -> None:
        # here, so that a VM in a process of its own loads neither devices nor engines in this one
        from vmlab.monitor.controller import Controller

        _guard_forks()
        self.memory = GuestMemory.allocate(memory_size, arch=arch)
        self.page = CounterPage()
        self.pid = os.getpid()
        self._closed = False
        self._controller = Controller(self.memory, self.page, tell)

    def parcel(self, device: Device | VirtioDevice) -> bytes:
        token = str(id(device)).encode()
        self._controller.parcels[token] = device
        return token

    def call(self, command: wire.Command, timeout: float = COMMAND_TIMEOUT) -> Any:
        wire.pack_request(0, command)
        return wire.result(command, self._controller.handle(command))

    def close(self, stuck: bool = False) -> None:
        # in a fork the machine's threads do not exist
        if self._closed or self.pid != os.getpid():
            return
        self._closed = True
        try:
            self._controller.close()
        except VmlabError:
            # a thread in a device's code, which nothing ends but the process: it may still use the memory
            log.exception("code of a device does not return; its thread is left behind")
            return
        self.memory.close()

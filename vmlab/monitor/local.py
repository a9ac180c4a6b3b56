"""A machine in this process, for debugging and for the command line: no boundary, the same commands."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Protocol

from vmlab.core.counters import CounterPage
from vmlab.core.device import Device
from vmlab.core.memory import GuestMemory
from vmlab.monitor import wire
from vmlab.virtio.device import VirtioDevice

__all__ = ["COMMAND_TIMEOUT", "LocalSession", "Session"]

#: seconds that a machine has for one command; the longest is a reset of a large guest
COMMAND_TIMEOUT = 60.0


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

    def close(self) -> None: ...


class LocalSession:
    """The machine in this process (`VM(isolate=False)`)."""

    def __init__(self, memory_size: int, tell: Callable[[wire.Event], None]) -> None:
        # here, so that a VM in a process of its own loads neither devices nor engines in this one
        from vmlab.monitor.controller import Controller

        self.memory = GuestMemory.allocate(memory_size)
        self.page = CounterPage()
        self.pid = os.getpid()
        self._controller = Controller(self.memory, self.page, tell)

    def parcel(self, device: Device | VirtioDevice) -> bytes:
        token = str(id(device)).encode()
        self._controller.parcels[token] = device
        return token

    def call(self, command: wire.Command, timeout: float = COMMAND_TIMEOUT) -> Any:
        wire.pack_request(0, command)
        return wire.result(command, self._controller.handle(command))

    def close(self) -> None:
        # in a fork the machine's threads do not exist
        if self.pid == os.getpid():
            self._controller.close()
            self.memory.close()

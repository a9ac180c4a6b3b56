"""Interrupt lines into KVM's in-kernel controllers."""

from __future__ import annotations

import ctypes
import os
import threading
from typing import TYPE_CHECKING

from vmlab.core.host import Host
from vmlab.core.log import Log
from vmlab.engine.kvm import abi
from vmlab.engine.kvm.parts import Line
from vmlab.errors import EngineError, EventFdError, RegisterIrqFd

if TYPE_CHECKING:
    from vmlab.engine.kvm.vm import KvmVm

__all__ = ["KvmIrqSink"]

log = Log(__name__)


class KvmIrqSink:
    """GSI `gsi`: levels by KVM_IRQ_LINE_STATUS, edges by an irqfd made when one is wanted. On a line
    that was driven edges come the same way as levels: an irqfd's are late, and end with the line down.

    After `close` (its own or the engine's) both calls do nothing: a device may be late.
    """

    def __init__(self, host: Host, vm: KvmVm, gsi: int, line: Line) -> None:
        self._host = host
        self._vm: KvmVm | None = vm
        self.gsi, self._line = gsi, line
        # one lock per line, so that a level, a reset and a close happen in some order
        self._lock = threading.Lock()
        self._level = self._driven = False
        self._eventfd = -1
        self._request = abi.KVM_IRQ_LINE_STATUS if line.tells else abi.KVM_IRQ_LINE
        # made once: a line falls inside a guest's access, which waits for it
        self._low, self._high = abi.IrqLevel(line.code, 0), abi.IrqLevel(line.code, 1)
        self._low_at, self._high_at = ctypes.addressof(self._low), ctypes.addressof(self._high)

    @property
    def open(self) -> bool:
        return self._vm is not None

    def set(self, level: bool) -> bool | None:
        """For a rising line, whether a controller took it: neither masked nor pending already. None: KVM does
        not tell."""
        with self._lock:
            vm = self._vm
            if level == self._level or vm is None:
                return None
            if not self._driven:
                self._drop_irqfd(vm)
                self._driven = True
            taken = self._drive(vm, level)
            self._level = level
            return taken

    def _drive(self, vm: KvmVm, level: bool) -> bool | None:
        try:
            if not level:
                self._host.ioctl(vm.fd, abi.KVM_IRQ_LINE, self._low_at)
                return None
            line = self._high
            line.irq = self._line.code
            self._host.ioctl(vm.fd, self._request, self._high_at)
        except OSError as error:
            raise EngineError(f"KVM_IRQ_LINE, GSI {self.gsi}: {error.strerror or error}") from error
        # the status lies there, a signed number
        return 0 < line.irq < 1 << 31 if self._line.tells else None

    def pulse(self) -> bool | None:
        """One edge; an irqfd does not tell what became of it."""
        with self._lock:
            if self._vm is None:
                return None
            if self._driven:
                turns = [self._drive(self._vm, level) for level in (not self._level, self._level)]
                return turns[self._level]
            if self._eventfd < 0:
                self._eventfd = self._register(self._vm)
            os.eventfd_write(self._eventfd, 1)
            return None

    def _register(self, vm: KvmVm) -> int:
        try:
            fd = self._host.eventfd()
        except OSError as error:
            raise EventFdError(error.strerror or error) from error
        try:
            self._irqfd(vm, fd, 0)
        except OSError as error:
            self._host.close(fd)
            raise RegisterIrqFd(f"GSI {self.gsi}: {error.strerror or error}") from error
        return fd

    def _irqfd(self, vm: KvmVm, fd: int, flags: int) -> None:
        self._host.ioctl(vm.fd, abi.KVM_IRQFD, abi.Irqfd(fd=fd, gsi=self._line.gsi, flags=flags))

    def _drop_irqfd(self, vm: KvmVm) -> None:
        """Done when its last edge is: KVM waits for that."""
        fd, self._eventfd = self._eventfd, -1
        if fd < 0:
            return
        try:
            self._irqfd(vm, fd, abi.KVM_IRQFD_FLAG_DEASSIGN)
        except OSError as error:
            raise RegisterIrqFd(f"GSI {self.gsi}: {error.strerror or error}") from error
        finally:
            self._host.close(fd)

    def move(self, vm: KvmVm) -> None:
        """Hold the same line of another VM, at the level that the device drives."""
        with self._lock:
            if self._vm is None:
                return
            if self._eventfd >= 0:
                # one eventfd serves one irqfd at a time (since Linux 6.17 across VMs, too)
                try:
                    self._irqfd(self._vm, self._eventfd, abi.KVM_IRQFD_FLAG_DEASSIGN)
                    self._irqfd(vm, self._eventfd, 0)
                except OSError as error:
                    raise RegisterIrqFd(f"GSI {self.gsi}: {error.strerror or error}") from error
            if self._level:
                self._drive(vm, True)
            self._vm = vm

    def close(self) -> None:
        with self._lock:
            vm, self._vm = self._vm, None
            if vm is None:
                return
            try:
                if self._level:
                    self._drive(vm, False)
                if self._eventfd >= 0:
                    self._irqfd(vm, self._eventfd, abi.KVM_IRQFD_FLAG_DEASSIGN)
            except (OSError, EngineError) as error:
                # closing goes on: the VM's own end takes the line and the irqfd with it
                log.warning("GSI %d: %s", self.gsi, error)
            finally:
                self._level = False
                if self._eventfd >= 0:
                    self._host.close(self._eventfd)
                    self._eventfd = -1

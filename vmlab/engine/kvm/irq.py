"""Interrupt lines into KVM's in-kernel PICs and IOAPIC."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from vmlab.core.host import Host
from vmlab.core.log import Log
from vmlab.engine.kvm import abi
from vmlab.engine.kvm.vm import control
from vmlab.errors import EngineError, EventFdError, RegisterIrqFd

if TYPE_CHECKING:
    from vmlab.engine.kvm.vm import KvmVm

__all__ = ["GSIS", "KvmIrqSink"]

log = Log(__name__)

#: the pins of KVM's IOAPIC, which its default routing gives GSIs 0..23 (KVM API 4.24)
GSIS = 24


class KvmIrqSink:
    """GSI `gsi`: levels by KVM_IRQ_LINE_STATUS, edges by an irqfd made when the first one is wanted.

    After `close` (its own or the engine's) both calls do nothing: a device may be late.
    """

    def __init__(self, host: Host, vm: KvmVm, gsi: int) -> None:
        self._host = host
        self._vm: KvmVm | None = vm
        self.gsi = gsi
        # one lock per line, so that a level, a reset and a close happen in some order
        self._lock = threading.Lock()
        self._level = False
        self._eventfd = -1

    @property
    def open(self) -> bool:
        return self._vm is not None

    def set(self, level: bool) -> bool | None:
        """For a rising line, whether a controller took it: neither masked nor pending already."""
        level = bool(level)
        with self._lock:
            if level is self._level or self._vm is None:
                return None
            taken = self._drive(self._vm, level)
            self._level = level
            return taken if level else None

    def _drive(self, vm: KvmVm, level: bool) -> bool:
        line = abi.IrqLevel(self.gsi, level)
        control(self._host, vm.fd, "KVM_IRQ_LINE_STATUS", line)
        return bool(0 < line.irq < 1 << 31)  # the status lies there, a signed number

    def pulse(self) -> None:
        """One edge; an irqfd does not tell what became of it."""
        with self._lock:
            if self._vm is None:
                return
            if self._eventfd < 0:
                self._eventfd = self._register(self._vm)
            os.eventfd_write(self._eventfd, 1)

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
        self._host.ioctl(vm.fd, abi.KVM_IRQFD, abi.Irqfd(fd=fd, gsi=self.gsi, flags=flags))

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

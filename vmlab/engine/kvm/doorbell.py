"""Notifications that never leave the kernel as traps: ioeventfds and the thread that hears them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from vmlab.core.host import Host
from vmlab.core.log import Log
from vmlab.core.patience import taken
from vmlab.engine.kvm import abi
from vmlab.errors import EngineError, EventFdError, RegisterIoEvent

if TYPE_CHECKING:
    import select

    from vmlab.engine.kvm.vm import KvmVm

__all__ = ["DoorbellPump", "KvmDoorbell"]

log = Log(__name__)

EPOLLIN = 1


class KvmDoorbell:
    """One ioeventfd (KVM API 4.59). After `close` no `ring` starts; one under way may finish."""

    def __init__(
        self,
        pump: DoorbellPump,
        fd: int,
        where: tuple[int, int, int | None],
        ring: Callable[[int], None],
    ) -> None:
        self._pump = pump
        self.fd = fd
        self.where = where
        self.ring = ring

    def close(self) -> None:
        self._pump.remove(self)


class DoorbellPump:
    """All doorbells of an engine and the one thread that rings them, started with the first."""

    def __init__(self, host: Host, vm: KvmVm) -> None:
        self._host = host
        self._vm = vm
        #: guards the table and the descriptors in it, never held while a device rings
        self._lock = threading.Lock()
        self._bells: dict[int, KvmDoorbell] = {}
        self._epoll: select.epoll | None = None
        self._wake = -1
        self._thread: threading.Thread | None = None
        self._closed = False

    def add(
        self, address: int, size: int, match: int | None, ring: Callable[[int], None]
    ) -> KvmDoorbell:
        with self._lock:
            if self._closed:
                raise EngineError("the engine is closed; no doorbell can be added")
            epoll = self._epoll or self._start()
            try:
                fd = self._host.eventfd()
            except OSError as error:
                raise EventFdError(error.strerror or error) from error
            bell = KvmDoorbell(self, fd, (address, size, match), ring)
            try:
                epoll.register(fd, EPOLLIN)
                self._assign(self._vm, bell)
            except OSError as error:
                self._host.close(fd)  # which takes it out of the epoll set as well
                raise RegisterIoEvent(
                    f"{size} bytes at {address:#x}: {error.strerror or error}"
                ) from error
            self._bells[fd] = bell
            return bell

    def _start(self) -> select.epoll:
        """The epoll set, its wake-up descriptor and the thread; all or nothing."""
        epoll, wake = None, -1
        try:
            epoll = self._host.epoll()
            wake = self._host.eventfd()
            epoll.register(wake, EPOLLIN)
            thread = threading.Thread(
                target=self._run, args=(epoll, wake), name="vmlab-doorbells", daemon=True
            )
            thread.start()
        except (OSError, RuntimeError) as error:
            if wake >= 0:
                self._host.close(wake)
            if epoll is not None:
                epoll.close()
            raise EventFdError(getattr(error, "strerror", None) or error) from error
        self._epoll, self._wake, self._thread = epoll, wake, thread
        return epoll

    def _assign(self, vm: KvmVm, bell: KvmDoorbell, flags: int = 0) -> None:
        address, size, match = bell.where
        if match is not None:
            flags |= abi.KVM_IOEVENTFD_FLAG_DATAMATCH
        self._host.ioctl(
            vm.fd,
            abi.KVM_IOEVENTFD,
            abi.Ioeventfd(datamatch=match or 0, addr=address, len=size, fd=bell.fd, flags=flags),
        )

    def move(self, vm: KvmVm) -> None:
        """Listen to another VM; the old one, which runs no more, is left to its end."""
        with self._lock:
            for bell in self._bells.values():
                try:
                    self._assign(vm, bell)
                except OSError as error:
                    raise RegisterIoEvent(
                        f"doorbell at {bell.where[0]:#x}: {error.strerror or error}"
                    ) from error
            self._vm = vm

    def remove(self, bell: KvmDoorbell) -> None:
        with self._lock:
            if self._bells.get(bell.fd) is not bell:
                return
            del self._bells[bell.fd]
            # first the kernel's side, then ours: a guest that writes meanwhile traps to the bus
            try:
                self._assign(self._vm, bell, abi.KVM_IOEVENTFD_FLAG_DEASSIGN)
            except OSError as error:
                log.warning("doorbell at %#x: %s", bell.where[0], error)
            assert self._epoll is not None
            self._epoll.unregister(bell.fd)
            self._host.close(bell.fd)
            bell.fd = -1

    def _run(self, epoll: select.epoll, wake: int) -> None:
        while True:
            try:
                events = epoll.poll()
            except ValueError:  # closed by a ring on this very thread
                return
            for fd, _ in events:
                if fd == wake:
                    return
                with self._lock:
                    bell = self._bells.get(fd)
                    count = _take(fd) if bell is not None else 0
                if bell is not None and count:
                    self._ring(bell, count)

    @staticmethod
    def _ring(bell: KvmDoorbell, count: int) -> None:
        try:
            bell.ring(count)
        except BaseException as error:  # a device's code; the other doorbells need this thread
            if not taken(error):
                log.exception("the doorbell at %#x raised", bell.where[0])

    def close(self) -> None:
        """Remove every doorbell and end the thread; from that thread itself, without waiting."""
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
        for bell in list(self._bells.values()):
            self.remove(bell)
        if thread is None:
            return
        os.eventfd_write(self._wake, 1)
        if thread is not threading.current_thread():
            thread.join()
        assert self._epoll is not None
        self._epoll.close()
        self._host.close(self._wake)


def _take(fd: int) -> int:
    """The eventfd's count, which goes back to zero."""
    try:
        return os.eventfd_read(fd)
    except BlockingIOError:  # a descriptor that was closed and given out again since the poll
        return 0

"""Writes taken out of the trap path, as KVM's ioeventfd takes them."""

from __future__ import annotations

import threading
from collections.abc import Callable

from vmlab.core.log import Log
from vmlab.core.patience import taken

__all__ = ["Doorbells"]

log = Log(__name__)


class _Doorbell:
    """One address (and value); `pending` writes wait for the thread."""

    def __init__(
        self, owner: Doorbells, key: tuple[int, int, int | None], ring: Callable[[int], None]
    ) -> None:
        self._owner, self._key = owner, key
        self.address = key[0]
        self.ring = ring
        self.pending = 0

    def close(self) -> None:
        """No call of `ring` starts after this."""
        self._owner.remove(self._key, self)


class Doorbells:
    """All doorbells of an engine, and the thread that rings them (started with the first)."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._bells: dict[tuple[int, int, int | None], _Doorbell] = {}
        #: addresses with a bell: one look-up per MMIO write decides
        self.addresses: set[int] = set()
        self._due: list[_Doorbell] = []
        self._thread: threading.Thread | None = None
        self._closed = False

    def add(
        self, address: int, size: int, match: int | None, ring: Callable[[int], None]
    ) -> _Doorbell:
        key = (address, size, match)
        bell = _Doorbell(self, key, ring)
        with self._lock:
            if key in self._bells:
                raise ValueError(f"there is a doorbell at {address:#x} already (size {size})")
            self._bells[key] = bell
            self.addresses.add(address)
        return bell

    def remove(self, key: tuple[int, int, int | None], bell: _Doorbell) -> None:
        with self._lock:
            bell.pending = 0
            if bell in self._due:
                self._due.remove(bell)
            if self._bells.get(key) is bell:
                del self._bells[key]
                self.addresses = {address for address, _, _ in self._bells}

    def take(self, address: int, size: int, value: int) -> bool:
        """A write to one of `addresses` -> whether a bell takes it."""
        with self._lock:
            bell = self._bells.get((address, size, value)) or self._bells.get((address, size, None))
            if bell is None:
                return False
            bell.pending += 1
            if bell.pending == 1:
                self._due.append(bell)
                if self._thread is None and not self._closed:
                    self._thread = threading.Thread(
                        target=self._run, name="vmlab-soft-doorbell", daemon=True
                    )
                    self._thread.start()
                self._lock.notify()
            return True

    def _run(self) -> None:
        while True:
            with self._lock:
                while not self._due and not self._closed:
                    self._lock.wait()
                if self._closed:
                    return
                bell = self._due.pop(0)
                count, bell.pending = bell.pending, 0
            self._ring(bell, count)

    @staticmethod
    def _ring(bell: _Doorbell, count: int) -> None:
        try:
            bell.ring(count)
        except BaseException as error:  # a device's code; the other doorbells need this thread
            if not taken(error):
                log.exception("the doorbell at %#x raised", bell.address)

    def close(self, timeout: float) -> bool:
        """Ring no more -> whether the thread has ended."""
        with self._lock:
            self._closed = True
            self._due.clear()
            self._lock.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
            if self._thread.is_alive():
                return False
        self._thread = None
        return True

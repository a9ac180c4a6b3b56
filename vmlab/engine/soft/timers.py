"""Deadlines of the chipset, kept by one thread that starts with the first of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable

__all__ = ["Timers"]

#: seconds without the lock between two callbacks that are due at once
_BREATH = 50e-6


class Timers:
    """One deadline per key, in nanoseconds of `time.monotonic_ns`.

    `lock` is the owner's; callbacks run with it held, on the timer thread.
    """

    def __init__(self, lock: threading.RLock, name: str) -> None:
        self._changed = threading.Condition(lock)
        self._deadlines: dict[Hashable, tuple[int, Callable[[], None]]] = {}
        self._name = name
        self._thread: threading.Thread | None = None
        #: what the thread waits for, so that a later deadline does not wake it
        self._waiting_for: int | None = None
        self._closed = False

    def set(self, key: Hashable, deadline: int | None, callback: Callable[[], None]) -> None:
        """Call `callback` once at `deadline`; None: not at all. The lock is held by the caller."""
        if deadline is None:
            self._deadlines.pop(key, None)
            return
        if self._closed:
            return
        self._deadlines[key] = (deadline, callback)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        elif self._waiting_for is None or deadline < self._waiting_for:
            self._changed.notify()

    def _run(self) -> None:
        called = False
        with self._changed:
            while not self._closed:
                if not self._deadlines:
                    self._waiting_for = None
                    self._changed.wait()
                    continue
                key, (deadline, callback) = min(
                    self._deadlines.items(), key=lambda item: item[1][0]
                )
                left = deadline - time.monotonic_ns()
                if left > 0:
                    self._waiting_for = deadline
                    self._changed.wait(left / 1e9)
                elif called:
                    # a timer that is due again at once would keep the lock from everybody else
                    self._changed.wait(_BREATH)
                else:
                    del self._deadlines[key]
                    callback()
                    called = True
                    continue
                called = False

    def close(self) -> None:
        """End the thread. Not to be called with the lock held."""
        with self._changed:
            self._closed = True
            self._deadlines.clear()
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

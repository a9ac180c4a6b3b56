"""The machine's time: it stands still while the machine is paused."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable

__all__ = ["Clock", "Timer"]


class Timer:
    """A call that is due at a moment of the machine's time, in nanoseconds."""

    __slots__ = ("call", "cancelled", "due")

    def __init__(self, due: int, call: Callable[[], None]) -> None:
        self.due = due
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """Nanoseconds since the machine started, pauses left out, and calls at a moment of it.

    The calls run on one thread, started with the first of them; a call must be short.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._queue: list[tuple[int, int, Timer]] = []
        self._order = itertools.count()
        self._thread: threading.Thread | None = None
        self._base = 0
        self._since: int | None = None
        self._closed = False

    def now(self) -> int:
        since = self._since
        return self._base + (time.monotonic_ns() - since if since is not None else 0)

    @property
    def running(self) -> bool:
        return self._since is not None

    def resume(self) -> None:
        with self._condition:
            if self._since is None:
                self._since = time.monotonic_ns()
                self._condition.notify()

    def pause(self) -> None:
        with self._condition:
            self._base, self._since = self.now(), None
            self._condition.notify()

    def call_at(self, due: int, call: Callable[[], None]) -> Timer:
        timer = Timer(due, call)
        with self._condition:
            heapq.heappush(self._queue, (due, next(self._order), timer))
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="vmlab-clock", daemon=True)
                self._thread.start()
            self._condition.notify()
        return timer

    def reset(self) -> None:
        """Forget every pending call."""
        with self._condition:
            self._queue.clear()

    def close(self) -> None:
        with self._condition:
            self._closed = True
            self._queue.clear()
            self._condition.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while (timer := self._next()) is not None:
            timer.call()

    def _next(self) -> Timer | None:
        with self._condition:
            while not self._closed:
                if not self._queue or self._since is None:
                    self._condition.wait()
                    continue
                due, _, timer = self._queue[0]
                left = due - self.now()
                if timer.cancelled or left <= 0:
                    heapq.heappop(self._queue)
                    if not timer.cancelled:
                        return timer
                else:
                    self._condition.wait(left / 1e9)
            return None

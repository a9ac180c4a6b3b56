"""The machine's time: it stands still while the machine is paused."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable

from vmlab.core.log import Log
from vmlab.core.patience import taken

__all__ = ["Clock", "Timer"]

log = Log(__name__)

#: calls in the queue before cancelled ones are looked for
SWEEP = 64
#: the longest single wait, in seconds: the host takes no number of any size
LONGEST_WAIT = 3600.0


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

    The calls run on one thread, started when the first can be due; a call must be short.
    on_error: told what a call raised; without it the error is logged. The clock goes on either way.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._queue: list[tuple[int, int, Timer]] = []
        self._order = itertools.count()
        self._sweep_at = SWEEP
        self._thread: threading.Thread | None = None
        #: (nanoseconds before the last resume, when that was or None), swapped whole: `now` has no lock
        self._at: tuple[int, int | None] = (0, None)
        #: `pause` has not yet said where time stands
        self._pausing = False
        self._closed = False
        self.on_error: Callable[[BaseException], None] | None = None

    def now(self) -> int:
        while True:
            at = base, since = self._at
            if since is None:
                return base
            moment = base + time.monotonic_ns() - since
            # a pause may fall between the two reads, and `moment` behind it; in this order: a pause
            # that is over has changed `_at`
            if not self._pausing and self._at is at:
                return moment
            with self._condition:  # until it has said so
                pass

    @property
    def running(self) -> bool:
        return self._at[1] is not None

    def resume(self) -> None:
        with self._condition:
            if not self.running:
                self._at = (self._at[0], time.monotonic_ns())
                self._stir()

    def pause(self) -> None:
        with self._condition:
            base, since = self._at
            if since is not None:
                # before the host's time is read: no `now` may return a later moment than this one
                self._pausing = True
                self._at = (base + time.monotonic_ns() - since, None)
                self._pausing = False
            self._condition.notify()

    def call_at(self, due: int, call: Callable[[], None]) -> Timer:
        timer = Timer(due, call)
        with self._condition:
            if not self._closed:
                if len(self._queue) >= self._sweep_at:
                    self._sweep()
                heapq.heappush(self._queue, (due, next(self._order), timer))
                self._stir()
        return timer

    def _sweep(self) -> None:
        """Drop cancelled calls: a guest that sets and stops a timer for ever must not fill the host."""
        self._queue = [entry for entry in self._queue if not entry[2].cancelled]
        heapq.heapify(self._queue)
        self._sweep_at = max(SWEEP, 2 * len(self._queue))

    def _stir(self) -> None:
        """Something may be due: have a thread look."""
        if self._thread is None and self._queue and self.running and not self._closed:
            self._thread = threading.Thread(target=self._run, name="vmlab-clock", daemon=True)
            self._thread.start()
        self._condition.notify()

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
            self._fire(timer)

    def _fire(self, timer: Timer) -> None:
        try:
            timer.call()
        except BaseException as error:  # other timers need this thread
            if taken(error):
                return
            if self.on_error is not None:
                self.on_error(error)
            else:
                log.exception("a timed call raised")

    def _next(self) -> Timer | None:
        with self._condition:
            while not self._closed:
                if not self._queue or not self.running:
                    self._condition.wait()
                    continue
                due, _, timer = self._queue[0]
                left = due - self.now()
                if timer.cancelled or left <= 0:
                    heapq.heappop(self._queue)
                    if not timer.cancelled:
                        return timer
                else:
                    self._condition.wait(min(left / 1e9, LONGEST_WAIT))
            return None

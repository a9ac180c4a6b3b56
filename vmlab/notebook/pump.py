"""One thread that keeps every view on screen up to date, and goes on while a cell computes.

At most ten times a second, only for views that somebody sees, and a view only speaks when what it
shows has changed. Where nothing has for some seconds it looks less often, until something does. Output of
a console goes at once, gathered over some milliseconds.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable
from typing import Protocol

__all__ = ["PUMP", "Pump", "Pumped"]

log = logging.getLogger(__name__)

#: seconds between two looks at the counters
LOOK = 0.1
#: seconds without news after which it is done less often, and how often then
IDLE, SELDOM = 3.0, 0.5
#: seconds between two messages of one console
GATHER = 0.01


class Pumped(Protocol):
    """What a view offers. Both are called on the pump's thread and must be short."""

    @property
    def watched(self) -> bool:
        """Whether the view is on screen somewhere."""
        ...

    def refresh(self) -> bool:
        """Look, and tell the page if something is new; whether it was."""
        ...

    def flush(self) -> None:
        """Send what should not wait for the next look."""
        ...


class Pump:
    """The thread begins with the first view and ends with the last."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._views: weakref.WeakSet[Pumped] = weakref.WeakSet()
        self._urgent: weakref.WeakSet[Pumped] = weakref.WeakSet()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._looked = self._flushed = -LOOK
        self._news = 0.0

    def add(self, view: Pumped) -> None:
        with self._lock:
            self._views.add(view)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="vmlab-pump", daemon=True)
                self._thread.start()
        self.wake()

    def remove(self, view: Pumped) -> None:
        with self._lock:
            self._views.discard(view)
            self._urgent.discard(view)
        self._wake.set()

    def poke(self, view: Pumped) -> None:
        """Flush `view` soon; from any thread."""
        with self._lock:
            if view not in self._views:
                return
            self._urgent.add(view)
        self.wake()

    def wake(self) -> None:
        """Look soon: a view has come on screen, or something has happened that it will show."""
        self._news = self._clock()
        self._wake.set()

    @property
    def alive(self) -> bool:
        return self._thread is not None

    def _run(self) -> None:
        while (pause := self._turn()) is not None:
            self._wake.wait(pause)
            # whoever woke us has left word under the lock before, so that nothing is missed here
            self._wake.clear()

    def _every(self, now: float) -> float:
        return LOOK if now < self._news + IDLE else SELDOM

    def _turn(self) -> float | None:
        """What is due now; returns the seconds until more is. None: no views are left."""
        with self._lock:
            if not self._views:
                self._thread = None
                return None
            views, urgent = list(self._views), list(self._urgent)
            if urgent and self._clock() >= self._flushed + GATHER:
                self._urgent.clear()
                due = urgent
            else:
                due = []
        for view in due:
            _guarded(view.flush)
            self._flushed = self._clock()
        seen = [view for view in views if view.watched]
        now = self._clock()
        if seen and now >= self._looked + self._every(now):
            self._looked = now
            news = [_guarded(view.refresh) for view in seen]
            if any(news):
                self._news = now
        # bounded: a view that is collected wakes nobody
        at = [now + 1.0]
        at += [self._looked + self._every(now)] if seen else []
        at += [self._flushed + GATHER] if urgent and not due else []
        return max(min(at) - self._clock(), 0.001)


def _guarded(action: Callable[[], object]) -> object:
    try:
        return action()
    except BaseException:  # one view's trouble is not the others'
        log.exception("a view could not be brought up to date")
        return None


#: the one of this process
PUMP = Pump()

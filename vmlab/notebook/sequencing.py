"""Messages from the page in the order in which they were sent, and work done in order off the kernel's
threads.

JupyterLab hands a widget's messages to several threads (subshells), so that what was typed first may
arrive second. Every rendered view numbers what it sends; `Resequencer` puts it right again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

__all__ = ["Resequencer", "SerialExecutor"]

log = logging.getLogger(__name__)
Item = TypeVar("Item")

#: seconds that a message waits for an earlier one; longer, and that one is lost
PATIENCE = 0.5
#: messages that may wait at a gap
WAITING = 256


class Resequencer(Generic[Item]):
    """Items by number, from 0. Not locked: its view does that."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = 0
        self._waiting: dict[int, Item] = {}
        self._since = 0.0

    def put(self, number: int, item: Item) -> Iterator[Item]:
        """What may be handled now that `item` is here; a number that was handled is dropped."""
        if number < self._next or number in self._waiting:
            return
        if not self._waiting:
            self._since = self._clock()
        self._waiting[number] = item
        yield from self.due()

    def due(self) -> Iterator[Item]:
        """What may be handled now: all up to the next gap, and behind a gap that is too old."""
        if self._waiting and self._next not in self._waiting and self._overdue():
            self._next = min(self._waiting)
        while self._next in self._waiting:
            item = self._waiting.pop(self._next)
            self._next += 1
            self._since = self._clock()
            yield item

    def _overdue(self) -> bool:
        return len(self._waiting) >= WAITING or self._clock() - self._since >= PATIENCE

    @property
    def gap(self) -> bool:
        """Whether something waits for a message that has not come."""
        return bool(self._waiting)


class SerialExecutor:
    """Calls, one after the other, on a thread that is there only while there are any: a command that
    takes seconds must hold up neither the kernel nor the pump."""

    def __init__(self, name: str, most: int = 64) -> None:
        self._name = name
        self._most = most
        self._lock = threading.Lock()
        self._todo: deque[Callable[[], None]] = deque()
        self._busy = False

    def put(self, errand: Callable[[], None]) -> bool:
        """Have it called; False when too many are waiting."""
        with self._lock:
            if len(self._todo) >= self._most:
                return False
            self._todo.append(errand)
            if self._busy:
                return True
            self._busy = True
        threading.Thread(target=self._run, name=self._name, daemon=True).start()
        return True

    @property
    def busy(self) -> bool:
        return self._busy

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._todo:
                    self._busy = False
                    return
                errand = self._todo.popleft()
            try:
                errand()
            except BaseException:  # the next one is not to blame
                log.exception("%s: an errand raised", self._name)

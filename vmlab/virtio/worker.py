"""The thread that serves a device's queues, one at a time, off the vCPUs' threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from vmlab.core.safely import report

__all__ = ["Worker"]


class Worker:
    """Calls `serve(index)` for each queue that was woken, in turns; what it returns says whether the
    queue wants another turn.

    `lock` is the device's own. Waiting lets go of it, however often it is held, so that a reset
    inside a register access can wait for the request under way. The thread starts with the first call
    of `wake` after `open`, and ends with `close`.
    """

    def __init__(self, name: str, lock: threading.RLock, serve: Callable[[int], bool]) -> None:
        self._name = name
        self._turn = threading.Condition(lock)
        self._serve = serve
        self._thread: threading.Thread | None = None
        self._open = False
        #: the queues to look at, a bit each; the one that is being looked at; the one before
        self._due = 0
        self._busy: int | None = None
        self._last = -1
        #: turns that have ended
        self._turns = 0

    def open(self) -> None:
        with self._turn:
            self._open = True

    def close(self) -> None:
        """End the thread, after the request under way."""
        with self._turn:
            self._open = False
            self._due = 0
            self._turn.notify_all()
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def wake(self, index: int) -> None:
        """Look at queue `index` soon. Any thread may call."""
        with self._turn:
            if not self._open:
                return
            self._due |= 1 << index
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            elif self._busy is None:
                self._turn.notify_all()

    def settle(self, index: int | None = None) -> None:
        """`rest`, then forget what is due. The caller has seen to it that turns which begin later find
        nothing to do."""
        with self._turn:
            self.rest(index)
            self._due &= ~(1 << index) if index is not None else 0

    def rest(self, index: int | None = None) -> None:
        """Wait for the turn of queue `index` (None: of any) that is under way."""
        with self._turn:
            turn = self._turns
            while (
                self._busy is not None
                and index in (None, self._busy)
                and self._turns == turn
                and threading.current_thread() is not self._thread
            ):
                self._turn.wait()

    @property
    def last(self) -> int:
        """The queue that had the last turn; -1: none had one."""
        return self._last

    def is_due(self, index: int) -> bool:
        """Whether queue `index` has a turn, or will have one soon."""
        with self._turn:
            return self._busy == index or bool(self._due >> index & 1)

    def _run(self) -> None:
        while (index := self._next()) is not None:
            more = False
            try:
                more = self._serve(index)
            except BaseException as error:  # noqa: BLE001  # a reset waits for this thread: it must go on
                report(error)
            with self._turn:
                self._busy = None
                self._turns += 1
                if more and self._open:
                    self._due |= 1 << index
                self._turn.notify_all()
            if more:
                # a guest that keeps a ring full keeps this thread running: let go of the interpreter, or
                # each trap of any vCPU waits 5 ms for it
                time.sleep(0)

    def _next(self) -> int | None:
        """The queue after the last one that is due: a full one does not keep the others waiting."""
        with self._turn:
            while self._open and not self._due:
                self._turn.wait()
            if not self._open:
                return None
            later = self._due >> (self._last + 1) << (self._last + 1)
            chosen = later or self._due
            self._busy = self._last = index = (chosen & -chosen).bit_length() - 1
            self._due &= ~(1 << index)
            return index

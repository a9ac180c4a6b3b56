"""Queues and who serves them: the part of a transport that every kind of it would share."""

from __future__ import annotations

from vmlab.core.clock import Timer
from vmlab.core.device import Device
from vmlab.core.patience import taken
from vmlab.core.safely import report, text_of
from vmlab.virtio.device import VirtioDevice
from vmlab.virtio.queue import BrokenRing, Virtqueue
from vmlab.virtio.registers import USED_BUFFER
from vmlab.virtio.steps import AVAILABLE, DESCRIPTORS, TAKEN
from vmlab.virtio.worker import Worker

__all__ = ["VirtioTransport"]

#: requests served before the thread looks for another queue and interrupts
TURN = 64


class VirtioTransport(Device):
    """The queues of `device`, a thread and timers. Subclasses say how to interrupt and to give up."""

    def __init__(self, device: VirtioDevice) -> None:
        self.device = device
        #: whether requests are served
        self.running = False
        #: the queues that the driver made ready, by index
        self.queues: dict[int, Virtqueue] = {}
        self._worker = Worker(f"vmlab-{device.type}", self.lock, self._serve)
        self._timers: dict[int, Timer] = {}

    def _interrupt(self, cause: int) -> None:
        raise NotImplementedError

    def needs_reset(self, why: str, step: str = TAKEN) -> None:
        raise NotImplementedError

    def _forget_queues(self) -> None:
        self.queues = {}
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def wake(self, index: int) -> None:
        with self.lock:
            if self.running:
                self._worker.wake(index)

    def wake_in(self, seconds: float, index: int) -> None:
        due = self.clock.now() + int(seconds * 1e9) + 1  # never too early by a rounding
        with self.lock:
            # one timer a queue: a guest that notifies for ever must not fill the clock
            timer = self._timers.get(index)
            if timer is not None:
                if timer.due <= due:
                    return
                timer.cancel()
            self._timers[index] = self.clock.call_at(due, lambda: self._timed(index))

    def _timed(self, index: int) -> None:
        with self.lock:
            self._timers.pop(index, None)
            self.wake(index)

    def _serve(self, index: int) -> bool:
        """A turn of queue `index`, on the worker's thread; True when it wants another."""
        queue = self.queues.get(index)
        if queue is None:
            return False
        try:
            return self._serve_some(index, queue)
        except BrokenRing as error:
            trouble = f"queue {index}: {error}"
            step = AVAILABLE if error.in_ring else DESCRIPTORS
        except BaseException as error:  # noqa: BLE001  # even sys.exit() must not end the thread
            if taken(error):
                return False
            report(error)
            trouble, step = f"the device failed: {text_of(error)}", TAKEN
        with self.lock:
            if self.running and self.queues.get(index) is queue:
                self.needs_reset(trouble, step)
        return False

    def _serve_some(self, index: int, queue: Virtqueue) -> bool:
        process, more = self.device.process, True
        queue.disable_notifications()
        for _ in range(TURN):
            if not self.running:
                return False
            more = process(index)
            if not more:
                break
        if not more:
            # a request may have come before the driver saw that it must notify again; `moved` keeps a
            # device that says "ready" and takes nothing from spinning
            more = (
                queue.enable_notifications() and self.device.ready(index) and queue.has_progressed()
            )
        if queue.needs_interrupt():
            self._used(index, queue)
        return more

    def _used(self, index: int, queue: Virtqueue) -> None:
        """Interrupt, unless the queue or the whole device has been stopped meanwhile."""
        with self.lock:
            if self.running and self.queues.get(index) is queue:
                self._interrupt(USED_BUFFER)

    @property
    def last_served(self) -> int:
        """The queue that had the last turn; -1: none had one."""
        return self._worker.last

    def is_due(self, index: int) -> bool:
        """Whether queue `index` is being looked at, or will be soon."""
        return self._worker.is_due(index)

    def rest(self, index: int) -> None:
        """Wait for the turn of queue `index` that is under way, if there is one."""
        self._worker.rest(index)

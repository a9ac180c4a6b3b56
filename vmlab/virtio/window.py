"""What both versions of the virtio-mmio transport share (virtio 1.2 §4.2), as a bus device around a
VirtioDevice.

One thread a device serves its queues, off the vCPUs' threads. A reset waits until the request under
way is done: after it, nothing of the device touches guest memory (§2.4).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

from vmlab.arch.api import Dialect
from vmlab.core.counters import DeviceState
from vmlab.core.device import on_peek, on_read, on_write
from vmlab.core.patience import Taken, taken
from vmlab.core.safely import report, text_of
from vmlab.errors import ConfigError
from vmlab.virtio import steps
from vmlab.virtio.checklist import checklist
from vmlab.virtio.device import VirtioDevice
from vmlab.virtio.journal import Counts, Journal, Mark
from vmlab.virtio.queue_state import QueueState, queue_state
from vmlab.virtio.registers import (
    CONFIG_CHANGE,
    DRIVER_OK,
    DRIVERS,
    FAILED,
    MAX_QUEUES,
    NEEDS_RESET,
    CommonRegisters,
    status_words,
)
from vmlab.virtio.removed import RemovedDevice
from vmlab.virtio.steps import DriverSteps
from vmlab.virtio.transport import VirtioTransport

__all__ = ["MmioWindow"]

T = TypeVar("T")


class MmioWindow(VirtioTransport):
    """`device` behind a window of registers: what both versions of the transport have."""

    class regs(CommonRegisters):
        """virtio 1.2 §4.2."""

    wants_irq = True
    #: called when the driver has reset the device; set by the machine
    on_let_go: Callable[[], None] | None = None
    #: told of (queue, how often) it was notified without a trap; set by the machine
    on_kick: Callable[[int, int], None] | None = None
    #: where the guest is, on the thread of the vCPU whose access this is; None: not known. Set by the machine
    program_counter: Callable[[], int | None] | None = None
    #: registers whose reads the journal compares
    _watched = ("Status", "DeviceFeatures", "HostFeatures", "QueueNumMax")

    def __init__(self, device: VirtioDevice, dialect: Dialect = Dialect()) -> None:  # noqa: B008  it cannot be changed
        if len(device.queue_sizes) > MAX_QUEUES:
            raise ConfigError(
                f"{device.type} has {len(device.queue_sizes)} queues; {MAX_QUEUES} is the most"
            )
        super().__init__(device)
        self.type = device.type  # type: ignore[misc]  # an instance is as its device is called
        self.consoles = device.consoles
        self._dialect = dialect
        device.transport = self
        self._resetting = 0
        self.status_now = 0
        self.journal = Journal(self.moment)
        rows = {row.name: index for index, row in enumerate(self.regs.table)}
        self._watching = [(name, rows[name]) for name in self._watched if name in rows]
        self._start()
        self._presented = self._config_bytes()

    def _start(self) -> None:
        """What a reset brings back; the generation of the configuration lives on."""
        self._forget_queues()
        #: queues that are being stopped or reset: their last request is under way
        self._stopping: set[int] = set()
        self._queue_resets: set[int] = set()
        self.negotiated = 0
        self.driver_features = 0
        #: a notification of a queue; the first is noted
        self._ring: Callable[[int], None] = self._first_notified

    def moment(self, value: int) -> Mark:
        block, where = self.counters, self.program_counter
        reads = {name: block.words[block.row(index)] for name, index in self._watching}
        now = self.clock.now() / 1e9
        return Mark(value, self.status_now, reads, now, where() if where is not None else None)

    def __getstate__(self) -> dict[str, Any]:
        return {"device": self.device, "dialect": self._dialect, "r": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        type(self).__init__(self, state["device"], state["dialect"])

    @property
    def offered(self) -> int:
        """The features that the driver is offered."""
        raise NotImplementedError

    # --- capabilities come and go ---------------------------------------------------------------

    def attached(self) -> None:
        self.device.attached()
        self._worker.open()
        self.journal.start_over(Counts.of(self.counters), "")

    def detached(self) -> None:
        with self.lock:
            self.running = False
        self._worker.close()
        with self.lock:
            self._start()  # the queues hold guest memory
        self.device.detached()

    def mark_removed(self) -> None:
        """The device goes, and its driver stays: from now on `RemovedDevice` answers it."""
        with self.lock:
            running, self.running = self.running, False
            self._worker.settle()
            gone, self.device = self.device, RemovedDevice(self.device)
            if not self.status_now:
                self.device.reset()
            self.running = running
        with contextlib.suppress(Taken):  # by force, out of this very call
            self._guarded(gone.detached, None)
        for index in list(self.queues):
            self.wake(index)

    def doorbells(self) -> list[tuple[int, int, int | None, Callable[[int], None]]]:
        """(offset, size, value, ring) of the writes that need not trap: a notification a queue."""
        if self.device.notify == "trap":
            return []
        return [
            (self.regs.QueueNotify.offset, 4, index, self._bell(index))
            for index in range(len(self.device.queue_sizes))
        ]

    def _bell(self, index: int) -> Callable[[int], None]:
        def ring(count: int) -> None:
            with self.lock:
                self.counters.kick(count)
                if self.on_kick is not None:
                    self.on_kick(index, count)
                self._notified(index)

        return ring

    def mistake(self, text: str, step: str = steps.TAKEN) -> None:
        """step: of the driver's checklist; what a device complains of is a request as a rule."""
        with self.lock:  # several threads count here
            self.journal.complain(step, text, self.progress)
            super().mistake(text)

    @property
    def progress(self) -> int:
        """Requests taken, of all queues."""
        return sum(queue.next_avail for queue in self.queues.values())

    def checklist(self, queue: int | None = None) -> DriverSteps:
        """How far the driver is: the steps of the set-up, and of the last request of `queue` (None: of the
        queue that had the last one). ConfigError for a queue that the device does not have."""
        with self.lock:
            return checklist(self, queue)

    def queue_state(self, index: int) -> QueueState:
        """What lies in a queue's memory. ConfigError for a queue that the device does not have."""
        with self.lock:
            return queue_state(self, index)

    # --- status --------------------------------------------------------------------

    @on_peek("DeviceID")
    def _device_id(self) -> int:
        return self.device.device_id

    @on_peek("VendorID")
    def _vendor(self) -> int:
        return self._dialect.vendor

    @on_peek("Status")
    def _status_shown(self) -> int:
        """What was written counts only when it has had its effect: a reset may take its time."""
        return self.status_now

    @on_write("Status")
    def _status(self, value: int) -> None:
        """§2.1: bits are set one after the other and none is taken back, but all at once by 0."""
        before = self.status_now
        if value == 0:
            self.reset()
            self.journal.mark(steps.RESET, 0)
            if self.on_let_go is not None:
                self.on_let_go()
            return
        if self._resetting:
            self.mistake(f"Status {value:#x} during a reset", steps.RESET)
            return
        if value & ~(DRIVERS | NEEDS_RESET):
            self.mistake(f"Status {value:#x} has bits that mean nothing", steps.STATUS)
        value &= DRIVERS
        if before & DRIVERS & ~value:
            self.mistake(f"Status {value:#x} takes back bits of {before:#x}", steps.STATUS)
            value |= before & DRIVERS
        new = value & ~before
        for name in steps.named(new):
            # of FEATURES_OK, which may be refused, the last
            self.journal.mark(name, value, again=name == steps.FEATURES_OK)
        value = self._agree(value, new)
        self._set_status(value | before & NEEDS_RESET)
        if new & value & DRIVER_OK:
            self._go()

    def _go(self) -> None:
        """DRIVER_OK; what was made available before counts, notified or not."""
        if self.status_now & NEEDS_RESET:
            self._interrupt(CONFIG_CHANGE)  # it could not be told earlier
        if self.running:
            self._guarded(self.device.activate, None)
            for index in self.queues:
                self.wake(index)

    def _agree(self, value: int, new: int) -> int:
        """The features, when the driver is that far -> Status as the device lets it be."""
        raise NotImplementedError

    def _serves(self, value: int) -> bool:
        """Whether requests are served while Status is `value`."""
        return value & (DRIVER_OK | FAILED | NEEDS_RESET) == DRIVER_OK

    def _set_status(self, value: int) -> None:
        self.status_now = self.r.Status = value
        self.running = self._serves(value)
        if self.counters.state == DeviceState.REMOVING:
            return  # until the guest has let the device go, whatever else it does with it
        if value & (NEEDS_RESET | FAILED):
            self.counters.state = DeviceState.FAILED
        elif value & DRIVER_OK:
            self.counters.state = DeviceState.DRIVER_OK
        elif value or self.counters.state != DeviceState.ADDED:
            self.counters.state = DeviceState.SEEN  # also by a driver that has let it go

    def reset(self) -> None:
        """§2.4: no request is under way when this returns, and every queue is forgotten."""
        with self.lock:
            self.running = False
            self._resetting += 1
            try:
                self._worker.settle()
            finally:
                self._resetting -= 1
            failed = self._guarded(self._failure, "")
            self._forget_registers()
            self._start()
            self._set_status(0)
            self.journal.start_over(Counts.of(self.counters), failed)
            self._guarded(self.device.reset, None)

    def _failure(self) -> str:
        """What the driver fails at in the life that ends."""
        return steps.failure(self.checklist()) if self.journal.lived else ""

    def _forget_registers(self) -> None:
        super().reset()

    def needs_reset(self, why: str, step: str = steps.TAKEN) -> None:
        """The device cannot go on (§2.1.2): counted, shown, and the driver is told."""
        with self.lock:
            self.mistake(why, step)
            before = self.status_now
            self._set_status(before | NEEDS_RESET)
            if before & DRIVER_OK and not before & NEEDS_RESET:
                self._interrupt(CONFIG_CHANGE)

    def _guarded(self, call: Callable[..., T], otherwise: T, *arguments: Any) -> T:
        """`call`, part of the device; one that raises has broken the device, not the machine."""
        try:
            return call(*arguments)
        except BaseException as error:  # it is the user's code
            if taken(error):
                raise Taken from error  # who made the access tries it again, with another device
            report(error)
            self.needs_reset(f"the device failed: {text_of(error)}")
            return otherwise

    # --- queues ---------------------------------------------------------------------------------

    def _selected(self) -> int | None:
        index: int = self.r.QueueSel
        return index if index < len(self.device.queue_sizes) else None

    @on_peek("QueueNumMax")
    def _queue_max(self) -> int:
        index = self._selected()
        return 0 if index is None else self.device.queue_sizes[index]

    def _drop_queue(self, index: int) -> None:
        """Forget a queue, once its request under way is done."""
        if self.queues.pop(index, None) is None:
            return
        stopping = self._stopping
        stopping.add(index)
        self._worker.settle(index)
        if stopping is self._stopping:  # else there was a reset meanwhile
            stopping.discard(index)
            self._guarded(self.device.queue_reset, None, index)

    def _check_shaping(self, register: str, value: int) -> None:
        """§4.2.2.2: only while the queue is not in use."""
        index = self._selected()
        if index is None:
            self.mistake(f"queue {self.r.QueueSel} is shaped, which does not exist", steps.QUEUES)
            return
        self.journal.shape(index, register, value)
        if index in self.queues:
            self.mistake(f"queue {index} is shaped while it is in use", steps.queue(index))

    @on_write("QueueNotify")
    def _notified(self, value: int) -> None:
        if value >= len(self.device.queue_sizes):
            self.mistake(f"a notification of queue {value}, which does not exist", steps.NOTIFY)
        elif self.running:
            self._ring(value)
        elif not self.status_now & NEEDS_RESET:
            text = f"a notification while Status is {status_words(self.status_now)}"
            self.mistake(text, steps.NOTIFY)

    def _first_notified(self, index: int) -> None:
        self.journal.mark(steps.NOTIFY, index)
        self._ring = self.wake
        self.wake(index)

    # --- interrupts and configuration -----------------------------------------------------------

    def _interrupt(self, cause: int) -> None:
        self.r.InterruptStatus |= cause
        self.irq.signal(True)

    @on_write("InterruptACK")
    def _acknowledged(self, value: int) -> None:
        """The line is up while a cause is set. One that came after the driver had looked is left, and is an
        edge of its own: the driver may listen for edges alone."""
        before = self.r.InterruptStatus
        left = self.r.InterruptStatus = before & ~value
        if not left:
            self.irq.set(False)
        elif left != before:
            self.irq.renew()

    def _config_bytes(self) -> bytes:
        config = self.device.config
        return b"" if config is None else self._guarded(bytes, b"", config)

    def _next_generation(self) -> None:
        """Of the configuration, where the version counts them."""

    def config_changed(self) -> None:
        with self.lock:
            self._presented = self._config_bytes()
            self._next_generation()
            if self.running:
                self._interrupt(CONFIG_CHANGE)

    @on_read("Config")
    def _config_read(self, offset: int, size: int) -> int:
        return self._guarded(self.device.read_config, 0, offset, size)

    @on_write("Config")
    def _config_write(self, offset: int, size: int, value: int) -> None:
        self._guarded(self.device.write_config, None, offset, size, value)
        self._presented = self._config_bytes()  # what the driver writes is no news to it

    def inspect(self) -> dict[str, Any]:
        """Status in words, features, queues, and what the device itself shows."""
        with self.lock:
            queues = [
                {
                    "index": index,
                    "size": queue.size,
                    "taken": queue.next_avail,
                    "used": queue.next_used,
                }
                for index, queue in sorted(self.queues.items())
            ]
            return {
                "status": status_words(self.status_now),
                "features": f"{self.negotiated:#x}",
                "queues": queues,
                **self.device.inspect(),
            }

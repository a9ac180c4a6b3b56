"""The virtio-mmio transport, version 2 (virtio 1.2 §4.2), as a bus device around a VirtioDevice.

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
from vmlab.virtio.device import VirtioDevice
from vmlab.virtio.queue import BrokenRing, Virtqueue
from vmlab.virtio.registers import (
    CONFIG_CHANGE,
    DRIVER_OK,
    DRIVERS,
    FAILED,
    FEATURES_OK,
    MAGIC,
    MAX_QUEUES,
    NEEDS_RESET,
    RING_EVENT_IDX,
    RING_INDIRECT_DESC,
    RING_RESET,
    TRANSPORT_FEATURES,
    VERSION_1,
    MmioRegisters,
    status_words,
)
from vmlab.virtio.removed import RemovedDevice
from vmlab.virtio.transport import VirtioTransport

__all__ = ["MAGIC", "MmioTransport", "status_words"]

T = TypeVar("T")


class MmioTransport(VirtioTransport):
    """`device` behind a window of registers."""

    class regs(MmioRegisters):
        """virtio 1.2 §4.2.2."""

    wants_irq = True
    #: called when the driver has reset the device; set by the machine
    on_let_go: Callable[[], None] | None = None

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
        self._status_now = 0
        self._start()
        self._presented = self._config_bytes()

    def _start(self) -> None:
        """What a reset brings back; the generation of the configuration lives on."""
        self._forget_queues()
        #: queues that are being stopped or reset: their last request is under way
        self._stopping: set[int] = set()
        self._queue_resets: set[int] = set()
        self.negotiated = 0
        self._driver_features = 0

    def __getstate__(self) -> dict[str, Any]:
        return {"device": self.device, "dialect": self._dialect, "r": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        MmioTransport.__init__(self, state["device"], state["dialect"])

    # --- capabilities come and go ---------------------------------------------------------------

    def attached(self) -> None:
        self.device.attached()
        self._worker.open()

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
            if not self._status_now:
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
                self._notified(index)

        return ring

    def mistake(self, text: str) -> None:
        with self.lock:  # several threads count here
            super().mistake(text)

    # --- features and status --------------------------------------------------------------------

    @property
    def offered(self) -> int:
        return self.device.features | TRANSPORT_FEATURES

    @on_peek("DeviceID")
    def _device_id(self) -> int:
        return self.device.device_id

    @on_peek("VendorID")
    def _vendor(self) -> int:
        return self._dialect.vendor

    @on_peek("DeviceFeatures")
    def _offer(self) -> int:
        return (
            self.offered >> (32 * self.r.DeviceFeaturesSel) if self.r.DeviceFeaturesSel < 2 else 0
        )

    @on_write("DriverFeatures")
    def _take(self, value: int) -> None:
        if self._status_now & FEATURES_OK:
            self.mistake("DriverFeatures written after FEATURES_OK")
        elif self.r.DriverFeaturesSel < 2:
            shift = 32 * self.r.DriverFeaturesSel
            self._driver_features &= ~(0xFFFF_FFFF << shift)
            self._driver_features |= value << shift
        elif value:
            self.mistake(f"DriverFeatures {value:#x} in window {self.r.DriverFeaturesSel}")

    @on_peek("Status")
    def _status_shown(self) -> int:
        """What was written counts only when it has had its effect: a reset may take its time."""
        return self._status_now

    @on_write("Status")
    def _status(self, value: int) -> None:
        """§2.1: bits are set one after the other and none is taken back, but all at once by 0."""
        before = self._status_now
        if value == 0:
            self.reset()
            if self.on_let_go is not None:
                self.on_let_go()
            return
        if self._resetting:
            self.mistake(f"Status {value:#x} during a reset")
            return
        if value & ~(DRIVERS | NEEDS_RESET):
            self.mistake(f"Status {value:#x} has bits that mean nothing")
        value &= DRIVERS
        if before & DRIVERS & ~value:
            self.mistake(f"Status {value:#x} takes back bits of {before:#x}")
            value |= before & DRIVERS
        new = value & ~before
        if new & FEATURES_OK:
            if self._acceptable():
                self.negotiated = self._driver_features
            else:
                value &= ~FEATURES_OK
        if new & DRIVER_OK and not value & FEATURES_OK:
            self.mistake("DRIVER_OK without FEATURES_OK")
            value &= ~DRIVER_OK
        self._set_status(value | before & NEEDS_RESET)
        if new & value & DRIVER_OK:
            self._go()

    def _go(self) -> None:
        """DRIVER_OK; what was made available before counts, notified or not."""
        if self._status_now & NEEDS_RESET:
            self._interrupt(CONFIG_CHANGE)  # it could not be told earlier
        if self.running:
            self._guarded(self.device.activate, None)
            for index in self.queues:
                self.wake(index)

    def _acceptable(self) -> bool:
        """Whether the device can work with the driver's choice (§2.2.1, §6.1)."""
        taken, problems = self._driver_features, []
        if extra := taken & ~self.offered:
            problems.append(f"features {extra:#x} were not offered")
        if not taken & VERSION_1:
            legacy = "VIRTIO_F_VERSION_1 was not taken: a legacy driver"
            if self._dialect.forgiving:
                self.mistake(legacy)
            else:
                problems.append(legacy)
        for feature, needed in self.device.feature_needs.items():
            if taken & feature and (missing := needed & ~taken):
                problems.append(f"feature {feature:#x} was taken without {missing:#x}")
        for problem in problems:
            self.mistake(problem)
        return not problems

    def _set_status(self, value: int) -> None:
        self._status_now = self.r.Status = value
        self.running = value & (DRIVER_OK | FAILED | NEEDS_RESET) == DRIVER_OK
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
            generation = self.r.ConfigGeneration
            super().reset()
            self.r.ConfigGeneration = generation
            self._start()
            self._set_status(0)
            self._guarded(self.device.reset, None)

    def needs_reset(self, why: str) -> None:
        """The device cannot go on (§2.1.2): counted, shown, and the driver is told."""
        with self.lock:
            self.mistake(why)
            before = self._status_now
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

    @on_peek("QueueReady")
    def _queue_ready(self) -> int:
        index = self._selected()
        return int(index in self.queues or index in self._stopping)

    @on_write(
        "QueueNum",
        "QueueDescLow",
        "QueueDescHigh",
        "QueueDriverLow",
        "QueueDriverHigh",
        "QueueDeviceLow",
        "QueueDeviceHigh",
    )
    def _queue_shaped(self, value: int) -> None:
        """§4.2.2.2: only while the queue is not in use; it takes effect when it is made ready."""
        index = self._selected()
        if index is None:
            self.mistake(f"queue {self.r.QueueSel} is shaped, which does not exist")
        elif index in self.queues:
            self.mistake(f"queue {index} is shaped while it is in use")

    @on_write("QueueReady")
    def _queue_start(self, value: int) -> None:
        index = self._selected()
        if index is None:
            self.mistake(f"QueueReady written for queue {self.r.QueueSel}, which does not exist")
        elif not value & 1:
            self._drop_queue(index)
        elif index in self._stopping:
            self.mistake(f"queue {index} is made ready while it is being stopped")
        elif index not in self.queues:
            self._make_queue(index)

    def _make_queue(self, index: int) -> None:
        if not self._status_now & FEATURES_OK:
            self.mistake("QueueReady before FEATURES_OK")
            return
        r, most = self.r, self.device.queue_sizes[index]
        try:
            if self.memory is None:
                raise BrokenRing("there is no memory: the device is not plugged in")
            if r.QueueNum[index] > most:
                raise BrokenRing(f"{r.QueueNum[index]} entries; it can have {most}")
            self.queues[index] = Virtqueue(
                self.memory,
                r.QueueNum[index],
                r.QueueDesc[index],
                r.QueueDriver[index],
                r.QueueDevice[index],
                event_idx=bool(self.negotiated & RING_EVENT_IDX),
                indirect=bool(self.negotiated & RING_INDIRECT_DESC),
            )
        except BrokenRing as error:
            self.needs_reset(f"queue {index}: {error}")
        else:
            self.wake(index)

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

    @on_peek("QueueReset")
    def _queue_resetting(self) -> int:
        return int(self._selected() in self._queue_resets)

    @on_write("QueueReset")
    def _queue_reset(self, value: int) -> None:
        """§2.6.1: reads 1 while it goes on, for other vCPUs to see; it is done when the write is."""
        index = self._selected()
        if index is None or not self.negotiated & RING_RESET:
            self.mistake("QueueReset for no queue, or without VIRTIO_F_RING_RESET")
        elif value & 1:
            resets = self._queue_resets
            resets.add(index)
            self._drop_queue(index)
            resets.discard(index)

    @on_write("QueueNotify")
    def _notified(self, value: int) -> None:
        if value >= len(self.device.queue_sizes):
            self.mistake(f"a notification of queue {value}, which does not exist")
        elif self.running:
            self.wake(value)
        elif not self._status_now & NEEDS_RESET:
            self.mistake(f"a notification while Status is {status_words(self._status_now)}")

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

    def config_changed(self) -> None:
        with self.lock:
            self._presented = self._config_bytes()
            self._next_generation()
            if self.running:
                self._interrupt(CONFIG_CHANGE)

    def _next_generation(self) -> None:
        self.r.ConfigGeneration = (self.r.ConfigGeneration + 1) & 0xFFFF_FFFF

    @on_read("ConfigGeneration")
    def _generation(self) -> int:
        """§2.5.1: the device may have changed fields and not have said so yet; a driver that has read
        one of them must not find the generation of before."""
        now = self._config_bytes()
        if now != self._presented:
            self._presented = now
            self._next_generation()
        generation: int = self.r.ConfigGeneration
        return generation

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
                "status": status_words(self._status_now),
                "features": f"{self.negotiated:#x}",
                "queues": queues,
                **self.device.inspect(),
            }

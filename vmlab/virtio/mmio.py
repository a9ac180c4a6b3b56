"""The virtio-mmio transport, version 2 (virtio 1.2 §4.2), as a bus device around a VirtioDevice.

One thread a device serves its queues, off the vCPUs' threads. A reset waits until the request under
way is done: after it, nothing of the device touches guest memory (§2.4).
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from typing import Any

from vmlab.core.device import Device, on_peek, on_read, on_write
from vmlab.regs import Registers, bit, block, pair64, ro, rw, wo
from vmlab.virtio.device import VirtioDevice
from vmlab.virtio.queue import BrokenRing, Virtqueue

__all__ = ["MAGIC", "MmioTransport", "status_words"]

MAGIC = 0x7472_6976
VENDOR = 0x424C_4D56  # "VMLB"
CONFIG = 0x100
# feature bits of the ring and the transport (§6)
RING_INDIRECT_DESC, RING_EVENT_IDX, VERSION_1, RING_RESET = 1 << 28, 1 << 29, 1 << 32, 1 << 40
TRANSPORT_FEATURES = RING_INDIRECT_DESC | RING_EVENT_IDX | VERSION_1 | RING_RESET
# InterruptStatus (§4.2.2)
USED_BUFFER, CONFIG_CHANGE = 1, 2
#: queues that a device can have: one bank of the queue registers each
MAX_QUEUES = 64
_PER_QUEUE = ("QueueSel", MAX_QUEUES)
#: requests served before the thread looks for a reset or another queue
TURN = 64


class MmioTransport(Device):
    """`device` behind a window of registers."""

    class regs(Registers, strict=True):
        MagicValue = ro(0x000, '"virt"', reset=MAGIC, spec="virtio 1.2 §4.2.2")
        Version = ro(0x004, "version of the transport", reset=2)
        DeviceID = ro(0x008, "what device it is; 0: a placeholder, nothing is here")
        VendorID = ro(0x00C, "who made it", reset=VENDOR)
        DeviceFeatures = ro(0x010, "32 of the features that the device offers")
        DeviceFeaturesSel = wo(0x014, "which 32 of them")
        DriverFeatures = wo(0x020, "32 of the features that the driver takes")
        DriverFeaturesSel = wo(0x024, "which 32 of them")
        QueueSel = wo(0x030, "the queue that the queue registers speak of")
        QueueNumMax = ro(0x034, "the most entries that the queue can have; 0: no such queue")
        QueueNum = wo(0x038, "the entries that it has", banked_by=_PER_QUEUE)
        QueueReady = rw(0x044, "1: the queue is set up")
        QueueNotify = wo(0x050, "there is something in the queue of this index")
        InterruptStatus = ro(
            0x060,
            "why the device interrupts",
            USED_BUFFER=bit(0, "a request is done"),
            CONFIG_CHANGE=bit(1, "the configuration space has changed"),
        )
        InterruptACK = wo(0x064, "causes that the driver has dealt with")
        Status = rw(
            0x070,
            "how far the driver is; 0 resets the device",
            ACKNOWLEDGE=bit(0, "the guest has seen the device"),
            DRIVER=bit(1, "it knows how to drive it"),
            DRIVER_OK=bit(2, "it drives it"),
            FEATURES_OK=bit(3, "the features are agreed on"),
            DEVICE_NEEDS_RESET=bit(6, "the device cannot go on", access="ro"),
            FAILED=bit(7, "the driver has given up"),
        )
        QueueDesc = pair64(0x080, "guest-physical address of the descriptor table", banked_by=_PER_QUEUE)
        QueueDriver = pair64(0x090, "of the driver area", banked_by=_PER_QUEUE)
        QueueDevice = pair64(0x0A0, "of the device area", banked_by=_PER_QUEUE)
        SHMSel = wo(0x0AC, "the shared memory region that the next two speak of")
        SHMLenLow = ro(0x0B0, "its length; all ones: no such region", reset=0xFFFF_FFFF)
        SHMLenHigh = ro(0x0B4, "", reset=0xFFFF_FFFF)
        SHMBaseLow = ro(0x0B8, "its address", reset=0xFFFF_FFFF)
        SHMBaseHigh = ro(0x0BC, "", reset=0xFFFF_FFFF)
        QueueReset = rw(0x0C0, "1 takes the queue back to its start")
        ConfigGeneration = ro(0x0FC, "changes with the configuration space")
        Config = block(CONFIG, 0x1000 - CONFIG, "the device's own configuration space")

    def __init__(self, device: VirtioDevice) -> None:
        self.device = device
        self.type = device.type  # type: ignore[misc]  # an instance is as its device is called
        device.carrier = self
        self._start()

    def _start(self) -> None:
        """What a reset brings back; the generation of the configuration lives on."""
        self.queues: dict[int, Virtqueue] = {}
        self.negotiated = 0
        self._driver_features = 0
        self._due = 0

    def __getstate__(self) -> dict[str, Any]:
        return {"device": self.device, "r": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        MmioTransport.__init__(self, state["device"])

    # --- capabilities come and go ---------------------------------------------------------------

    def attached(self) -> None:
        # the thread waits on the device's own lock: a reset inside an access can let go of it
        self._turn = threading.Condition(self.lock)
        self._busy = self._closing = False
        self._thread: threading.Thread | None = None
        self.device.attached()

    def detached(self) -> None:
        with self._turn:
            self._closing = True
            self._turn.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()
        self.device.detached()

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
            self.counters.kick(count)
            self.wake(index)

        return ring

    # --- features and status --------------------------------------------------------------------

    @property
    def offered(self) -> int:
        return self.device.features | TRANSPORT_FEATURES

    @on_peek("DeviceID")
    def _device_id(self) -> int:
        return self.device.device_id

    @on_peek("DeviceFeatures")
    def _offer(self) -> int:
        return self.offered >> (32 * self.r.DeviceFeaturesSel) if self.r.DeviceFeaturesSel < 2 else 0

    @on_write("DriverFeatures")
    def _take(self, value: int) -> None:
        if self.r.Status & self.regs.Status.FEATURES_OK:
            self.mistake("DriverFeatures written after FEATURES_OK")
        elif self.r.DriverFeaturesSel < 2:
            shift = 32 * self.r.DriverFeaturesSel
            self._driver_features &= ~(0xFFFF_FFFF << shift)
            self._driver_features |= value << shift
        elif value:
            self.mistake(f"DriverFeatures {value:#x} in window {self.r.DriverFeaturesSel}")

    @on_write("Status")
    def _status(self, value: int) -> None:
        """§2.1: bits are set one after the other and none is taken back, but all at once by 0."""
        bits, before = self.regs.Status, self._status_now
        needs_reset = before & bits.DEVICE_NEEDS_RESET
        value &= ~bits.DEVICE_NEEDS_RESET
        if value == 0:
            self.reset()
            return
        if before & ~needs_reset & ~value:
            self.mistake(f"Status {value:#x} takes back bits of {before:#x}")
            value |= before
        if value & ~before & bits.FEATURES_OK:
            if self._acceptable():
                self.negotiated = self._driver_features
            else:
                value &= ~bits.FEATURES_OK
        if value & ~before & bits.DRIVER_OK and not value & bits.FEATURES_OK:
            self.mistake("DRIVER_OK without FEATURES_OK")
            value &= ~bits.DRIVER_OK
        self._set_status(value | needs_reset)
        if value & ~before & bits.DRIVER_OK:
            self.device.activate()
            for index in self.queues:
                self.wake(index)

    def _acceptable(self) -> bool:
        """Whether the device can work with the driver's choice (§3.1.1, §6.1)."""
        extra = self._driver_features & ~self.offered
        if extra:
            self.mistake(f"features {extra:#x} were not offered")
        elif not self._driver_features & VERSION_1:
            self.mistake("VIRTIO_F_VERSION_1 was not taken: a legacy driver")
        return not extra and bool(self._driver_features & VERSION_1)

    _status_now = 0

    def _set_status(self, value: int) -> None:
        bits = self.regs.Status
        self._status_now = self.r.Status = value
        if value & (bits.DEVICE_NEEDS_RESET | bits.FAILED):
            self.counters.state = "failed"
        elif value & bits.DRIVER_OK:
            self.counters.state = "driver_ok"
        elif self.counters.state != "removing":
            self.counters.state = "seen" if value else "added"

    @property
    def running(self) -> bool:
        """Whether requests are served."""
        bits = self.regs.Status
        return self._status_now & (
            bits.DRIVER_OK | bits.FAILED | bits.DEVICE_NEEDS_RESET
        ) == bits.DRIVER_OK

    def reset(self) -> None:
        """§2.4: no request is under way when this returns, and every queue is forgotten."""
        with self.lock:
            self._status_now = 0
            turn = getattr(self, "_turn", None)
            while turn is not None and self._busy and threading.current_thread() is not self._thread:
                turn.wait()
            generation = self.r.ConfigGeneration
            super().reset()
            self.r.ConfigGeneration = generation
            self._start()
            self.device.reset()
            self._set_status(0)

    def needs_reset(self, why: str) -> None:
        """The device cannot go on (§2.1.1): counted, shown, and the driver is told."""
        with self.lock:
            self.mistake(why)
            bits = self.regs.Status
            was_ok = self._status_now & bits.DRIVER_OK
            self._set_status(self._status_now | bits.DEVICE_NEEDS_RESET)
            if was_ok:
                self._interrupt(CONFIG_CHANGE)

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
        return int(self._selected() in self.queues)

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
        elif value & 1 and index not in self.queues:
            self._make_queue(index)
        elif not value & 1:
            self._drop_queue(index)

    def _make_queue(self, index: int) -> None:
        if not self._status_now & self.regs.Status.FEATURES_OK:
            self.mistake("QueueReady before FEATURES_OK")
            return
        r, most = self.r, self.device.queue_sizes[index]
        try:
            if r.QueueNum[index] > most:
                raise BrokenRing(f"{r.QueueNum[index]} entries; it can have {most}")
            assert self.memory is not None
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
            self.queues[index].listen()

    def _drop_queue(self, index: int) -> None:
        """Forget a queue, once its request under way is done."""
        while self._busy and threading.current_thread() is not self._thread:
            self._turn.wait()
        self.queues.pop(index, None)

    @on_write("QueueReset")
    def _queue_reset(self, value: int) -> None:
        """§2.6.1; reads 0 again as soon as it is done, which it is when the write is."""
        index = self._selected()
        if index is None or not self.negotiated & RING_RESET:
            self.mistake("QueueReset for no queue, or without VIRTIO_F_RING_RESET")
        elif value & 1:
            self._drop_queue(index)
        self.r.QueueReset = 0

    @on_write("QueueNotify")
    def _notified(self, value: int) -> None:
        if value >= len(self.device.queue_sizes):
            self.mistake(f"a notification of queue {value}, which does not exist")
        else:
            self.wake(value)

    # --- serving them ---------------------------------------------------------------------------

    def wake(self, index: int) -> None:
        with self._turn:
            if self._closing or not self.running:
                return
            self._due |= 1 << index
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._serve, name=f"vmlab-{self.device.type}", daemon=True
                )
                self._thread.start()
            self._turn.notify_all()

    def wake_in(self, seconds: float, index: int) -> None:
        self.clock.call_at(self.clock.now() + int(seconds * 1e9), lambda: self.wake(index))

    def _serve(self) -> None:
        while (index := self._next()) is not None:
            more = False
            trouble = ""
            try:
                more = self._serve_some(index)
            except BrokenRing as error:
                trouble = f"queue {index}: {error}"
            except Exception as error:
                traceback.print_exc()
                trouble = f"the device failed: {type(error).__name__}: {error}"
            with self._turn:
                self._busy = False
                if trouble and self.running:
                    self.needs_reset(trouble)
                if more:
                    self._due |= 1 << index
                self._turn.notify_all()

    def _next(self) -> int | None:
        """The next queue to look at; None: the device goes."""
        with self._turn:
            while not self._closing and not (self._due and self.running):
                self._turn.wait()
            if self._closing:
                return None
            index = (self._due & -self._due).bit_length() - 1
            self._due &= ~(1 << index)
            self._busy = True
            return index

    def _serve_some(self, index: int) -> bool:
        """A turn of requests; True when more may wait."""
        queue = self.queues.get(index)
        if queue is None:
            return False
        process, more = self.device.process, True
        queue.quiet()
        for _ in range(TURN):
            more = self.running and process(index)
            if not more:
                break
        if not self.running:
            return False
        if not more:
            # a request may have come before the driver saw that it must notify again
            more = queue.listen() and self.device.ready(index)
        if queue.interrupt_wanted():
            with self.lock:
                if self.running:
                    self._interrupt(USED_BUFFER)
        return more

    # --- interrupts and configuration -----------------------------------------------------------

    def _interrupt(self, cause: int) -> None:
        self.r.InterruptStatus |= cause
        self.irq.pulse()

    @on_write("InterruptACK")
    def _acknowledged(self, value: int) -> None:
        self.r.InterruptStatus &= ~value

    def config_changed(self) -> None:
        with self.lock:
            self.r.ConfigGeneration = (self.r.ConfigGeneration + 1) & 0xFFFF_FFFF
            if self.running:
                self._interrupt(CONFIG_CHANGE)

    @on_read("Config")
    def _config_read(self, offset: int, size: int) -> int:
        return self.device.read_config(offset, size)

    @on_write("Config")
    def _config_write(self, offset: int, size: int, value: int) -> None:
        self.device.write_config(offset, size, value)

    def inspect(self) -> dict[str, Any]:
        """Status in words, features, queues, and what the device itself shows."""
        with self.lock:
            queues = [
                {"index": index, "size": queue.size, "taken": queue.taken, "used": queue.used}
                for index, queue in sorted(self.queues.items())
            ]
            return {
                "status": status_words(self._status_now),
                "features": f"{self.negotiated:#x}",
                "queues": queues,
                **self.device.inspect(),
            }


def status_words(status: int) -> str:
    """ACKNOWLEDGE|DRIVER|..., as the specification writes them."""
    fields = MmioTransport.regs.Status.fields
    return "|".join(name for name, mask in fields.items() if status & mask) or "0"

"""The virtio-mmio transport, version 2 (virtio 1.2 §4.2.2)."""

from __future__ import annotations

from vmlab.core.device import on_peek, on_read, on_write
from vmlab.virtio import steps
from vmlab.virtio.queue import BrokenRing, Virtqueue
from vmlab.virtio.registers import (
    DRIVER_OK,
    FEATURES_OK,
    MAGIC,
    RING_EVENT_IDX,
    RING_INDIRECT_DESC,
    RING_RESET,
    TRANSPORT_FEATURES,
    VERSION_1,
    MmioRegisters,
    status_words,
)
from vmlab.virtio.window import MmioWindow

__all__ = ["MAGIC", "MmioTransport", "status_words"]


class MmioTransport(MmioWindow):
    """`device` behind a window of registers."""

    class regs(MmioRegisters):
        """virtio 1.2 §4.2.2."""

    # --- features -------------------------------------------------------------------------------

    @property
    def offered(self) -> int:
        return self.device.features | TRANSPORT_FEATURES

    @on_peek("DeviceFeatures")
    def _offer(self) -> int:
        return (
            self.offered >> (32 * self.r.DeviceFeaturesSel) if self.r.DeviceFeaturesSel < 2 else 0
        )

    @on_write("DriverFeatures")
    def _take(self, value: int) -> None:
        self.journal.mark(steps.FEATURES, value)
        if self.status_now & FEATURES_OK:
            self.mistake("DriverFeatures written after FEATURES_OK", steps.FEATURES)
        elif self.r.DriverFeaturesSel < 2:
            shift = 32 * self.r.DriverFeaturesSel
            self.driver_features &= ~(0xFFFF_FFFF << shift)
            self.driver_features |= value << shift
        elif value:
            text = f"DriverFeatures {value:#x} in window {self.r.DriverFeaturesSel}"
            self.mistake(text, steps.FEATURES)

    def _agree(self, value: int, new: int) -> int:
        if new & FEATURES_OK:
            if self._acceptable():
                self.negotiated = self.driver_features
            else:
                value &= ~FEATURES_OK
        if new & DRIVER_OK and not value & FEATURES_OK:
            self.mistake("DRIVER_OK without FEATURES_OK", steps.DRIVER_OK)
            value &= ~DRIVER_OK
        return value

    def _acceptable(self) -> bool:
        """Whether the device can work with the driver's choice (§2.2.1, §6.1)."""
        taken, problems = self.driver_features, []
        if extra := taken & ~self.offered:
            problems.append(f"features {extra:#x} were not offered")
        if not taken & VERSION_1:
            legacy = "VIRTIO_F_VERSION_1 was not taken: a legacy driver"
            if self._dialect.forgiving:
                self.mistake(legacy, steps.FEATURES)
            else:
                problems.append(legacy)
        for feature, needed in self.device.feature_needs.items():
            if taken & feature and (missing := needed & ~taken):
                problems.append(f"feature {feature:#x} was taken without {missing:#x}")
        for problem in problems:
            self.mistake(problem, steps.FEATURES_OK)
        return not problems

    @on_write("GuestPageSize", "QueueAlign", "QueuePFN")
    def _mixed(self, value: int) -> None:
        self.mistake(
            "a register of version 1 is written (virtio 1.2 §4.2.4), and Version says 2 (§4.2.2)",
            steps.IDENTIFY,
        )

    # --- queues ---------------------------------------------------------------------------------

    @on_peek("QueueReady")
    def _queue_ready(self) -> int:
        index = self._selected()
        return int(index in self.queues or index in self._stopping)

    # what they say takes effect when the queue is made ready

    @on_write("QueueNum")
    def _queue_size(self, value: int) -> None:
        self._check_shaping("QueueNum", value)

    @on_write("QueueDescLow", "QueueDescHigh")
    def _queue_descriptors(self, value: int) -> None:
        self._check_shaping("QueueDesc", value)

    @on_write("QueueDriverLow", "QueueDriverHigh")
    def _queue_driver(self, value: int) -> None:
        self._check_shaping("QueueDriver", value)

    @on_write("QueueDeviceLow", "QueueDeviceHigh")
    def _queue_device(self, value: int) -> None:
        self._check_shaping("QueueDevice", value)

    @on_write("QueueReady")
    def _queue_start(self, value: int) -> None:
        index = self._selected()
        if index is None:
            text = f"QueueReady written for queue {self.r.QueueSel}, which does not exist"
            self.mistake(text, steps.QUEUES)
            return
        self.journal.shape(index, "QueueReady", value)
        if not value & 1:
            self._drop_queue(index)
        elif index in self._stopping:
            text = f"queue {index} is made ready while it is being stopped"
            self.mistake(text, steps.queue(index))
        elif index not in self.queues:
            self._make_queue(index)

    def _make_queue(self, index: int) -> None:
        if not self.status_now & FEATURES_OK:
            self.mistake("QueueReady before FEATURES_OK", steps.queue(index))
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
            self.needs_reset(f"queue {index}: {error}", steps.queue(index))
        else:
            self.wake(index)

    @on_peek("QueueReset")
    def _queue_resetting(self) -> int:
        return int(self._selected() in self._queue_resets)

    @on_write("QueueReset")
    def _queue_reset(self, value: int) -> None:
        """§2.6.1: reads 1 while it goes on, for other vCPUs to see; it is done when the write is."""
        index = self._selected()
        if index is None or not self.negotiated & RING_RESET:
            text = "QueueReset for no queue, or without VIRTIO_F_RING_RESET"
            self.mistake(text, steps.QUEUES)
        elif value & 1:
            resets = self._queue_resets
            resets.add(index)
            self._drop_queue(index)
            resets.discard(index)

    # --- the configuration's generation ---------------------------------------------------------

    def _forget_registers(self) -> None:
        generation = self.r.ConfigGeneration
        super()._forget_registers()
        self.r.ConfigGeneration = generation

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

"""The virtio-mmio transport, version 1: the legacy interface (virtio 1.2 §4.2.4), which many books' drivers
speak.

There is no FEATURES_OK, and a driver may use a device before it sets DRIVER_OK (§3.1.2).
"""

from __future__ import annotations

from vmlab.core.device import on_peek, on_write
from vmlab.virtio import steps
from vmlab.virtio.queue import BrokenRing, Virtqueue
from vmlab.virtio.registers import (
    DRIVER,
    DRIVER_OK,
    FAILED,
    FEATURES_OK,
    NEEDS_RESET,
    RING_EVENT_IDX,
    RING_INDIRECT_DESC,
    LegacyRegisters,
)
from vmlab.virtio.window import MmioWindow

__all__ = ["LegacyTransport"]

#: what GuestPageSize and QueueAlign are until they are written, in bytes
PAGE = 4096
_LOW = 0xFFFF_FFFF


class LegacyTransport(MmioWindow):
    """`device` behind a window of the old registers."""

    class regs(LegacyRegisters):
        """virtio 1.2 §4.2.4."""

    #: the device has been told that it is driven
    _active = False

    @property
    def offered(self) -> int:
        return (self.device.features | RING_INDIRECT_DESC | RING_EVENT_IDX) & _LOW

    @on_peek("HostFeatures")
    def _offer(self) -> int:
        return 0 if self.r.HostFeaturesSel else self.offered

    @on_write("GuestFeatures")
    def _take(self, value: int) -> None:
        self.journal.mark(steps.FEATURES, value)
        wanted = self.offered if not self.r.GuestFeaturesSel else 0
        if extra := value & ~wanted:
            text = f"features {extra:#x} were not offered (virtio 1.2 §2.2.1)"
            self.mistake(text, steps.FEATURES)
        if not self.r.GuestFeaturesSel:
            self.driver_features = value & wanted

    # --- status ---------------------------------------------------------------------------------

    def _agree(self, value: int, new: int) -> int:
        if new & FEATURES_OK:
            text = "FEATURES_OK: a legacy device has none (virtio 1.2 §4.2.4, §3.1.2)"
            self.mistake(text, steps.FEATURES)
        return value & ~FEATURES_OK

    def _serves(self, value: int) -> bool:
        """From DRIVER_OK on, or since a queue was used before it."""
        spoiled = value & (FAILED | NEEDS_RESET)
        return not spoiled and bool(value & DRIVER_OK or (self.running and value & DRIVER))

    def _go(self) -> None:
        if not self._active:
            self._active = True
            super()._go()

    def _start(self) -> None:
        super()._start()
        self._active = False

    @on_write("QueueNotify")
    def _notified(self, value: int) -> None:
        early = self.status_now & (DRIVER | FAILED | NEEDS_RESET) == DRIVER
        if early and not self.running and value in self.queues:
            self.running = True
            self._go()
        super()._notified(value)

    @on_write("QueueReady")
    def _mixed(self, value: int) -> None:
        self.mistake(
            "a register of version 2 is written (virtio 1.2 §4.2.2), and Version says 1 (§4.2.4)",
            steps.IDENTIFY,
        )

    # --- queues ---------------------------------------------------------------------------------

    @on_write("GuestPageSize")
    def _page_size(self, value: int) -> None:
        self.journal.mark(steps.PAGE_SIZE, value, again=True)
        if value.bit_count() != 1:
            text = f"GuestPageSize {value:#x} is no power of 2 (virtio 1.2 §4.2.4)"
            self.mistake(text, steps.PAGE_SIZE)

    @on_write("QueueNum")
    def _queue_size(self, value: int) -> None:
        self._check_shaping("QueueNum", value)

    @on_write("QueueAlign")
    def _queue_align(self, value: int) -> None:
        self._check_shaping("QueueAlign", value)

    @on_peek("QueuePFN")
    def _queue_page(self) -> int:
        index = self._selected()
        return 0 if index is None else self._pages.get(index, 0)

    @on_write("QueuePFN")
    def _queue_start(self, value: int) -> None:
        index = self._selected()
        if index is None:
            text = f"QueuePFN written for queue {self.r.QueueSel}, which does not exist"
            self.mistake(text, steps.QUEUES)
            return
        self.journal.shape(index, "QueuePFN", value)
        if not value:
            self._pages.pop(index, None)
            self._drop_queue(index)
        elif index in self.queues or index in self._stopping:
            text = f"QueuePFN written for queue {index}, which is in use"
            self.mistake(text, steps.queue(index))
        else:
            self._make_queue(index, value)

    def _make_queue(self, index: int, page: int) -> None:
        """§2.7.2: descriptors, available ring and, from the next boundary on, used ring."""
        r, most = self.r, self.device.queue_sizes[index]
        size, align = r.QueueNum[index] or most, r.QueueAlign[index] or PAGE
        try:
            if self.memory is None:
                raise BrokenRing("there is no memory: the device is not plugged in")
            if size > most:
                raise BrokenRing(f"{size} entries; it can have {most}")
            if align.bit_count() != 1:
                raise BrokenRing(f"QueueAlign {align:#x} is no power of 2")
            first = page * (r.GuestPageSize or PAGE)
            available = first + 16 * size
            used = available + 6 + 2 * size + align - 1 & -align
            self.queues[index] = Virtqueue(
                self.memory,
                size,
                first,
                available,
                used,
                event_idx=bool(self.driver_features & RING_EVENT_IDX),
                indirect=bool(self.driver_features & RING_INDIRECT_DESC),
            )
        except BrokenRing as error:
            self.needs_reset(f"queue {index}: {error}", steps.queue(index))
        else:
            self._pages[index] = page
            self.negotiated = self.driver_features
            self.wake(index)

    def _forget_queues(self) -> None:
        super()._forget_queues()
        #: of each queue in use what QueuePFN says
        self._pages: dict[int, int] = {}

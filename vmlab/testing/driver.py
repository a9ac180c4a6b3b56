"""The driver of a virtio device, for tests of the device without any guest.

    from vmlab.testing import Driver
    from vmlab.virtio.device import VirtioDevice

    class Echo(VirtioDevice):
        type, device_id, queue_sizes = "virtio-echo", 63, (16,)

        def handle(self, index, chain):
            return chain.write(chain.read()[::-1])

    def test_echo():
        with Driver(Echo()) as driver:
            assert driver.request(0, out=[b"abc"], in_=[8]) == b"cba"
            assert driver.irq_count == 1
            assert driver.mistakes == []

Everything goes through the registers of virtio 1.2 §4.2.2, as a guest's accesses would, and through
rings in plain guest memory. `driver.rings[0]` writes those rings as one likes, for tests of what
the device makes of a hostile guest; `driver.wait_for(driver.needs_reset)` then waits for its answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Self

from vmlab.core.counters import DeviceCounts
from vmlab.core.memory import GuestMemory
from vmlab.core.units import parse_size
from vmlab.errors import VmlabError
from vmlab.testing.harness import DeviceHarness
from vmlab.testing.rings import Arena, Request, Ring
from vmlab.virtio.device import VirtioDevice
from vmlab.virtio.mmio import MmioTransport
from vmlab.virtio.registers import MAGIC, RING_EVENT_IDX, RING_INDIRECT_DESC, VERSION_1

if TYPE_CHECKING:
    from vmlab.vm.checklist import Checklist

__all__ = ["Driver", "DriverError"]

REG = MmioTransport.regs
STATUS = REG.Status
#: seconds between two looks of `wait_for`
PAUSE = 0.001
#: where the driver's own structures begin; page 0 stays free, to be pointed at by mistake
FIRST = 0x1000
MOST_QUEUES = 64


class DriverError(VmlabError):
    """The device did not do what a driver may expect; the message says what, and its complaints."""


class Driver:
    """Drives `device`, a VirtioDevice or a transport around one.

    memory: the guest's, or how much of it to make. features: what to take, with VIRTIO_F_VERSION_1;
    None: all that is offered but the two that `indirect` and `event_idx` choose. queue_size: entries of
    each queue at most. notify: "trap" writes QueueNotify always; None does as the device wants.
    timeout: seconds that a request may take. initialise: False leaves the device as it is after
    power-on.
    """

    def __init__(
        self,
        device: VirtioDevice | MmioTransport,
        memory: GuestMemory | str | int = "4M",
        *,
        features: int | None = None,
        indirect: bool = False,
        event_idx: bool = False,
        queue_size: int = 256,
        notify: str | None = None,
        timeout: float = 5.0,
        initialise: bool = True,
    ) -> None:
        self.transport = device if isinstance(device, MmioTransport) else MmioTransport(device)
        self.device = self.transport.device
        self._own_memory = not isinstance(memory, GuestMemory)
        self.memory = (
            memory if isinstance(memory, GuestMemory) else GuestMemory.allocate(parse_size(memory))
        )
        self.timeout = timeout
        self.queue_size = queue_size
        self.indirect, self.event_idx = indirect, event_idx
        self._wanted = features
        self._trap = notify == "trap"
        self.features = 0
        self.arena = Arena(FIRST, self.memory.regions[0].end)
        self.rings: dict[int, Ring] = {}
        self._collected: dict[int, list[Request]] = {}
        try:
            self.socket = DeviceHarness(self.transport, self.memory)
        except BaseException:
            self._close_memory()
            raise
        if initialise:
            try:
                self.initialise()
            except BaseException:
                self.close()
                raise

    # --- registers ------------------------------------------------------------------------------

    def read(self, register: str) -> int:
        """A register by its name in the specification."""
        row = REG.by_name[register]
        return self.transport.read(row.offset, row.size)

    def write(self, register: str, value: int) -> None:
        """Write a register by its name; QueueNotify rings its doorbell where there is one."""
        row = REG.by_name[register]
        if register == "QueueNotify" and not self._trap:
            self.socket.write(row.offset, row.size, value)
        else:
            self.transport.write(row.offset, row.size, value)

    def write64(self, pair: str, value: int) -> None:
        """A 64-bit register in its two halves."""
        self.write(pair + "Low", value & 0xFFFF_FFFF)
        self.write(pair + "High", value >> 32)

    @property
    def status(self) -> int:
        return self.read("Status")

    @status.setter
    def status(self, value: int) -> None:
        self.write("Status", value)

    def read_config(self, offset: int, size: int) -> int:
        """A field of the configuration space, of 1, 2, 4 or 8 bytes; read again while it changes
        (§4.2.2.2, §2.5.1)."""
        at = REG.Config.offset + offset
        while True:
            before = self.read("ConfigGeneration")
            if size == 8:
                value = self.transport.read(at, 4) | self.transport.read(at + 4, 4) << 32
            else:
                value = self.transport.read(at, size)
            if self.read("ConfigGeneration") == before:
                return value

    def write_config(self, offset: int, size: int, value: int) -> None:
        """A field of the configuration space, of 1, 2 or 4 bytes."""
        self.transport.write(REG.Config.offset + offset, size, value)

    # --- initialisation (§3.1) ------------------------------------------------------------------

    def initialise(self) -> None:
        """All of §3.1.1, from the reset to DRIVER_OK. DriverError when the device does not agree."""
        self.start_over()
        self.negotiate()
        for index in range(MOST_QUEUES):
            self.write("QueueSel", index)
            most = self.read("QueueNumMax")
            if not most:
                break
            self.set_up_queue(index, min(most, self.queue_size))
        self.status |= STATUS.DRIVER_OK
        if self.needs_reset():
            raise self._trouble("the device asks for a reset at DRIVER_OK")

    def start_over(self) -> None:
        """Identify, reset, ACKNOWLEDGE, DRIVER; what was under way is forgotten."""
        if self.read("MagicValue") != MAGIC or self.read("Version") != 2:
            raise DriverError("no virtio-mmio transport of version 2")
        if not self.read("DeviceID"):
            raise DriverError("a placeholder: there is no device")
        self.status = 0
        self._wait(lambda: self.status == 0, "the reset does not end")
        self.status = STATUS.ACKNOWLEDGE
        self.status |= STATUS.DRIVER
        for ring in self.rings.values():
            for request in (*ring.pending.values(), *self._collected[ring.index]):
                ring.release(request)
            ring.reset()
        self._collected = {index: [] for index in self.rings}

    def offered(self) -> int:
        """The device's feature bits, 128 of them."""
        value = 0
        for window in range(4):
            self.write("DeviceFeaturesSel", window)
            value |= self.read("DeviceFeatures") << (32 * window)
        return value

    def negotiate(self, features: int | None = None) -> None:
        """Take exactly `features` (None: as the class says), up to FEATURES_OK."""
        chosen = features
        if chosen is None:
            optional = RING_INDIRECT_DESC | RING_EVENT_IDX
            chosen = self.offered() & ~optional if self._wanted is None else self._wanted
            chosen |= VERSION_1
            chosen |= RING_INDIRECT_DESC * self.indirect | RING_EVENT_IDX * self.event_idx
        for window in range(4):
            self.write("DriverFeaturesSel", window)
            self.write("DriverFeatures", chosen >> (32 * window) & 0xFFFF_FFFF)
        self.status |= STATUS.FEATURES_OK
        if not self.status & STATUS.FEATURES_OK:
            raise self._trouble(f"the device does not take the features {chosen:#x}")
        self.features = chosen

    def set_up_queue(self, index: int, size: int) -> Ring:
        """Lay out queue `index` and make it ready (§4.2.3.2)."""
        ring = self.rings.get(index)
        if ring is not None and ring.size != size:
            ring.discard()
            ring = None
        if ring is None:
            ring = self.rings[index] = Ring(self.memory, self.arena, index, size)
            self._collected[index] = []
        ring.event_idx = bool(self.features & RING_EVENT_IDX)
        self.write("QueueSel", index)
        self.write("QueueNum", size)
        self.write64("QueueDesc", ring.desc)
        self.write64("QueueDriver", ring.driver)
        self.write64("QueueDevice", ring.device)
        self.write("QueueReady", 1)
        if not self.read("QueueReady"):
            raise self._trouble(f"queue {index} does not become ready")
        return ring

    # --- requests -------------------------------------------------------------------------------

    def request(
        self,
        queue: int,
        out: bytes | Sequence[bytes] = (),
        in_: int | Sequence[int] = (),
        timeout: float | None = None,
    ) -> bytes:
        """One request, waited for: the bytes that the device says it has written.

        out: what it reads, a buffer each; in_: sizes of the buffers that it writes."""
        request = self.submit(queue, out, in_)
        self.wait(queue, request, timeout)
        result = request.result
        self.rings[queue].release(request)
        return result

    def submit(
        self,
        queue: int,
        out: bytes | Sequence[bytes] = (),
        in_: int | Sequence[int] = (),
        kick: bool = True,
    ) -> Request:
        """Start a request; `collect` has it when it is done. kick=False leaves the device untold."""
        ring = self.rings[queue]
        indirect = bool(self.features & RING_INDIRECT_DESC)
        request = ring.lay_out(
            [out] if isinstance(out, bytes) else out,
            [in_] if isinstance(in_, int) else in_,
            indirect,
        )
        self.resubmit(queue, request, kick)
        return request

    def resubmit(self, queue: int, request: Request, kick: bool = True) -> None:
        """The same buffers once more, without laying them out again."""
        ring = self.rings[queue]
        ring.offer(request)
        ring.publish()
        if kick:
            self.kick(queue)

    def kick(self, queue: int) -> None:
        """Notify, unless the device has said that it looks anyway (§2.7.13.4)."""
        if self.rings[queue].kick_wanted():
            self.write("QueueNotify", queue)

    def collect(
        self, queue: int, count: int = 1, timeout: float | None = None, release: bool = True
    ) -> list[Request]:
        """`count` requests that are done, in the order of the device. release=False keeps their
        buffers, for `resubmit`; otherwise only `written` is of use afterwards, and `result` until
        the next request."""
        self._wait_used(queue, lambda: len(self._collected[queue]) >= count, timeout)
        done, self._collected[queue] = (
            self._collected[queue][:count],
            self._collected[queue][count:],
        )
        if release:
            for request in done:
                self.rings[queue].release(request)
        return done

    def wait(self, queue: int, request: Request, timeout: float | None = None) -> None:
        """Until `request` is done, whatever else comes back first."""
        self._wait_used(queue, lambda: request.done, timeout)
        self._collected[queue].remove(request)

    def poll(self, queue: int) -> int:
        """Look at the used ring now: how many requests wait to be collected."""
        self._collected[queue] += self.rings[queue].take_used()
        return len(self._collected[queue])

    def _wait_used(self, queue: int, enough: Callable[[], bool], timeout: float | None) -> None:
        ring, heard = self.rings[queue], self.socket.heard
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            heard.clear()
            if self.socket.line.level:
                self.acknowledge()  # of something else: it would hide the next one
            # say where to interrupt, then look once more: what came in between has no interrupt
            ring.used_event = ring.seen
            self.poll(queue)
            if enough():
                self.transport.rest(queue)  # its interrupt belongs to what is done
                self.acknowledge()
                return
            if self.needs_reset():
                raise self._trouble("the device asks for a reset")
            if ring.used_event != ring.seen:
                continue
            if not heard.wait(max(deadline - time.monotonic(), 0)):
                found = len(self._collected[queue])
                if self.poll(queue) > found:
                    raise self._trouble(f"queue {queue}: a request is done, but no interrupt came")
                raise self._trouble(f"queue {queue}: no answer in time")
            self.acknowledge()

    def acknowledge(self) -> int:
        """Read InterruptStatus and acknowledge what it says (§4.2.3.4); returns it."""
        causes = self.read("InterruptStatus")
        if causes:
            self.write("InterruptACK", causes)
        return causes

    def checklist(self, queue: int | None = None) -> Checklist:
        """How far this driver is, as `vm.devices[id].checklist()` shows it."""
        from vmlab.vm.checklist import (
            Checklist,
        )  # only here: few tests ask, and it loads the machine

        return Checklist("driver", self.device.type, self.transport.checklist(queue))

    # --- what the device thinks -----------------------------------------------------------------

    @property
    def irq_count(self) -> int:
        """How often the device has interrupted."""
        return self.socket.irq_count

    @property
    def mistakes(self) -> list[str]:
        """What the device said that its driver did wrong."""
        return self.socket.mistakes

    @property
    def counts(self) -> DeviceCounts:
        """Accesses and kicks so far, as `vm.traps` shows them."""
        return self.transport.counters.counts()

    def needs_reset(self) -> bool:
        """Whether the device has set DEVICE_NEEDS_RESET."""
        return bool(self.status & STATUS.DEVICE_NEEDS_RESET)

    def wait_for(self, what: Callable[[], object], timeout: float | None = None) -> None:
        """Until `what()` holds; DriverError when that takes longer than `timeout` seconds."""
        self._wait(what, f"{getattr(what, '__name__', what)} does not come true", timeout)

    def _wait(self, what: Callable[[], object], text: str, timeout: float | None = None) -> None:
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while not what():
            if time.monotonic() > deadline:
                raise self._trouble(text)
            time.sleep(PAUSE)

    def _trouble(self, text: str) -> DriverError:
        said = "; ".join(self.mistakes[-3:])
        return DriverError(f"{self.device.type}: {text}{f' ({said})' if said else ''}")

    # --- the end --------------------------------------------------------------------------------

    def close(self) -> None:
        """Unplug the device and wait for its thread; the memory goes too, if it is the driver's own."""
        self.socket.close()
        self.rings.clear()
        self._collected.clear()
        self._close_memory()

    def _close_memory(self) -> None:
        if self._own_memory:
            self.memory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

"""An address space: which device answers where.

The map is an immutable snapshot that is swapped whole, so a device comes or goes while vCPUs run and
none of them waits.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable
from typing import NamedTuple, Protocol

from vmlab.core.counters import UNMAPPED_READS, UNMAPPED_WRITES, CounterPage
from vmlab.core.log import Log
from vmlab.core.safely import short, text_of
from vmlab.errors import BusError, BusOverlap

__all__ = ["Bus", "BusDevice", "BusRange", "Fault"]

log = Log(__name__)

#: addresses told apart under "unmapped"; a guest that sweeps its whole space must not fill the host
UNMAPPED_LIMIT = 4096


class BusDevice(Protocol):
    """Anything that can be plugged in. Offsets and sizes in bytes."""

    def read(self, offset: int, size: int) -> int: ...
    def write(self, offset: int, size: int, value: int) -> None: ...


class BusRange(NamedTuple):
    """[start, start + size) belongs to `device`; its first byte is the device's `offset`."""

    start: int
    size: int
    device: BusDevice
    offset: int = 0
    name: str = ""

    @property
    def end(self) -> int:
        return self.start + self.size

    def register_at(self, address: int, size: int, write: bool) -> str:
        """The name of the register that an access reaches; "" where there is none, or nobody knows."""
        describe = getattr(self.device, "register_at", None)
        if describe is None:
            return ""
        try:
            name = describe(address - self.start + self.offset, size, write)
            # most names are what they should be
            return name if type(name) is str and len(name) < 100 and name.isascii() else short(name)
        except BaseException:  # noqa: BLE001  a device's own: it may raise anything, return anything
            return ""


class Fault:
    """A device's code raised while it handled an access; value: what was written, None for a read."""

    def __init__(
        self, range: BusRange, address: int, size: int, value: int | None, error: BaseException
    ) -> None:
        self.range, self.address, self.size = range, address, size
        self.value, self.error = value, error


class Bus:
    """An address space of `1 << bits` bytes.

    on_fault: called when a device raises; True means "try that access again", False "give up": a
    read then gives all ones. Without it the error goes to the caller, as BusError.
    """

    def __init__(self, name: str = "mmio", bits: int = 64, page: CounterPage | None = None) -> None:
        self.name = name
        self.limit = 1 << bits
        self.on_fault: Callable[[Fault], bool] | None = None
        #: address -> [reads, writes]; None gathers the rest past UNMAPPED_LIMIT
        self.unmapped: dict[int | None, list[int]] = {}
        self._page = page
        #: taken to change the map and to count misses, never to find a device
        self._lock = threading.Lock()
        self._deaf = False
        self._seen: Callable[[BusRange | None, int, int, int, bool], None] | None = None
        self._let_in: Callable[[int, int, int | None], bool] | None = None
        self._map: tuple[list[int], list[BusRange]] = ([-1], [BusRange(-1, 0, _Nothing())])
        self.read: Callable[[int, int], int] = self._read
        self.write: Callable[[int, int, int], None] = self._write

    @property
    def ranges(self) -> list[BusRange]:
        return self._map[1][1:]

    def insert(
        self, start: int, size: int, device: BusDevice, offset: int = 0, name: str = ""
    ) -> BusRange:
        """Plug `device` in at [start, start + size). BusOverlap if any byte is taken or size is 0."""
        if start < 0 or start + size > self.limit:
            raise BusError(
                f"[{start:#x}, {start + size:#x}) does not fit the {self.name} space of {self.limit:#x} bytes"
            )
        if size <= 0:
            raise BusOverlap(f" A range of {size} bytes at {start:#x} holds nothing.")
        new = BusRange(start, size, device, offset, name)
        with self._lock:
            for old in self.ranges:
                if old.start < new.end and start < old.end:
                    raise BusOverlap(
                        f" {start:#x}-{new.end - 1:#x} meets {old.name or 'a device'} at"
                        f" {old.start:#x}-{old.end - 1:#x}"
                    )
            self._swap([*self.ranges, new])
        return new

    def remove(self, start: int) -> None:
        """Unplug the range that starts at `start`."""
        with self._lock:
            kept = [one for one in self.ranges if one.start != start]
            if len(kept) == len(self.ranges):
                raise BusError(f"no device starts at {start:#x} on the {self.name} bus")
            self._swap(kept)

    def exchange(self, old: BusDevice, new: BusDevice, name: str | None = None) -> None:
        """`new` takes the place of `old`, between two accesses; and `name` that of its name."""
        with self._lock:
            self._swap(
                [
                    one._replace(device=new, name=one.name if name is None else name)
                    if one.device is old
                    else one
                    for one in self.ranges
                ]
            )

    def _swap(self, ranges: list[BusRange]) -> None:
        ranges.sort(key=lambda one: one.start)
        sentinel = self._map[1][0]
        self._map = ([-1, *(one.start for one in ranges)], [sentinel, *ranges])

    def find(self, address: int) -> BusRange | None:
        starts, ranges = self._map
        one = ranges[bisect_right(starts, address) - 1]
        return one if one.start <= address < one.start + one.size else None

    def _read(self, address: int, size: int) -> int:
        starts, ranges = self._map
        one = ranges[bisect_right(starts, address) - 1]
        offset = address - one.start
        if offset + size > one.size:
            return self._miss(address, size)
        try:
            return one.device.read(offset + one.offset, size)
        except BaseException as error:  # noqa: BLE001  a device's code may raise anything
            faults = [Fault(one, address, size, None, error)]
        # out here what another try raises does not come from this; and taken out, for the error's own
        # traceback has this frame
        return self._failed(faults.pop())

    def _write(self, address: int, size: int, value: int) -> None:
        starts, ranges = self._map
        one = ranges[bisect_right(starts, address) - 1]
        offset = address - one.start
        if offset + size > one.size:
            self._miss(address, size, write=True)
            return
        try:
            one.device.write(offset + one.offset, size, value)
        except BaseException as error:  # noqa: BLE001
            faults = [Fault(one, address, size, value, error)]
        else:
            return
        self._failed(faults.pop())

    def _failed(self, fault: Fault) -> int:
        if self.on_fault is None:
            error = BusError(
                f"{fault.range.name or type(fault.range.device).__name__} at"
                f" {fault.address:#x}: {text_of(fault.error)}"
            )
            error.__cause__ = fault.error  # mypyc does not hear `from`
            raise error
        while self.on_fault(fault):
            # looked up anew: the device may have been replaced meanwhile
            one = self.find(fault.address)
            if one is None or fault.address + fault.size > one.end:
                return self._miss(fault.address, fault.size, fault.value is not None)
            offset = fault.address - one.start + one.offset
            try:
                if fault.value is None:
                    return one.device.read(offset, fault.size)
                one.device.write(offset, fault.size, fault.value)
                return 0
            except BaseException as error:  # noqa: BLE001
                fault = Fault(one, fault.address, fault.size, fault.value, error)
        return (1 << 8 * fault.size) - 1

    def _miss(self, address: int, size: int, write: bool = False) -> int:
        key: int | None = address
        with self._lock:
            if key not in self.unmapped and len(self.unmapped) >= UNMAPPED_LIMIT:
                key = None
            self.unmapped.setdefault(key, [0, 0])[write] += 1
            if self._page is not None:
                self._page.words[UNMAPPED_WRITES if write else UNMAPPED_READS] += 1
        return (1 << 8 * size) - 1

    def observe(self, seen: Callable[[BusRange | None, int, int, int, bool], None] | None) -> None:
        """Call `seen(range, address, size, value, is_write)` for each access, after a read and before
        a write; None: stop. Costs nothing while nobody observes. An observer that raises is logged
        and taken off."""
        if not self._deaf:
            self._seen = seen
            self._connect()

    def guard(self, let_in: Callable[[int, int, int | None], bool] | None) -> None:
        """Call `let_in(address, size, value)`, on the vCPU's thread, before each access reaches anything;
        value is None for a read. It may take its time; False: the access does not happen, a read gives all
        ones. None: no more. Costs nothing while there is none."""
        self._let_in = let_in
        if not self._deaf:
            self._connect()

    def _connect(self) -> None:
        read, write = self._observed() if self._seen is not None else (self._read, self._write)
        let_in = self._let_in
        if let_in is None:
            self.read, self.write = read, write
            return
        allowed = let_in

        def guarded_read(address: int, size: int) -> int:
            return read(address, size) if allowed(address, size, None) else (1 << 8 * size) - 1

        def guarded_write(address: int, size: int, value: int) -> None:
            if allowed(address, size, value):
                write(address, size, value)

        self.read, self.write = guarded_read, guarded_write

    def _observed(self) -> tuple[Callable[[int, int], int], Callable[[int, int, int], None]]:
        watcher = self._seen
        assert watcher is not None

        def gone() -> None:
            log.exception("the observer of the %s bus raised and is taken off", self.name)
            self.observe(None)

        def read(address: int, size: int) -> int:
            value = self._read(address, size)
            # `find`, without the call
            starts, ranges = self._map
            one = ranges[bisect_right(starts, address) - 1]
            found = one if address - one.start < one.size else None
            try:
                watcher(found, address, size, value, False)
            except BaseException:  # noqa: BLE001  it may be anybody's
                gone()
            return value

        def write(address: int, size: int, value: int) -> None:
            starts, ranges = self._map
            one = ranges[bisect_right(starts, address) - 1]
            found = one if address - one.start < one.size else None
            try:
                watcher(found, address, size, value, True)
            except BaseException:  # noqa: BLE001
                gone()
            self._write(address, size, value)

        return read, write

    def mute(self) -> None:
        """From now on nothing is dispatched, observed or counted: the machine has ended, and what the
        guest still does on its way out must not be seen."""
        self._deaf = True
        self.read = lambda address, size: (1 << 8 * size) - 1
        self.write = lambda address, size, value: None

    def unmute(self) -> None:
        """Take back `mute`: the machine starts anew. Nobody observes."""
        self._deaf = False
        self.observe(None)


class _Nothing:
    """Stands below the lowest range, so that every look-up finds a row."""

    def read(self, offset: int, size: int) -> int:
        return (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        return None

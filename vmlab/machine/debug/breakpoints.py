"""The breakpoints of a machine: where they are put, and whether one that was met stops it.

Accesses to devices are met on the bus, before the device sees them: the vCPU waits inside the access and
performs it, once, when it is resumed. Code and memory are met by the engine (`Engine.set_points`), lines at
their sinks.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from msgspec.structs import replace

from vmlab.core.bus import Bus
from vmlab.engine.api import Engine, Hit, Point
from vmlab.errors import ConfigError, UnknownName
from vmlab.hints import unknown
from vmlab.machine.debug.records import BreakEntry, BreakEvent, BreakSpec
from vmlab.machine.device_manager import DeviceManager
from vmlab.machine.plugged import find

__all__ = ["MOST", "Breakpoints"]

#: breakpoints of a machine; each is looked at with every access or costs the engine
MOST = 1000
#: seconds that a condition has, and between two questions
ANSWER, BETWEEN = 1.0, 0.001
_LOOK = 0.05
_ENGINE_KINDS = ("code", "memory")


class _Machine(Protocol):
    """What is needed of the machine."""

    engine: Engine
    mmio: Bus
    ports: Bus
    device_manager: DeviceManager

    @property
    def muted(self) -> bool:
        """It has ended, or is being reset."""
        ...

    def at_rest(self) -> contextlib.AbstractContextManager[None]:
        """No vCPU executes in the block; afterwards those go on that did."""
        ...

    def stop_at(self, event: BreakEvent) -> None:
        """Become paused, for that reason; on any thread."""
        ...


class _Breakpoint:
    def __init__(self, number: int, spec: BreakSpec) -> None:
        self.number, self.spec = number, spec
        self.enabled, self.hits, self.how = True, 0, ""
        #: bus -> [start, end) that it covers there
        self.places: list[tuple[str, int, int]] = []

    @property
    def entry(self) -> BreakEntry:
        return BreakEntry(self.number, self.spec, self.enabled, self.hits, self.how)


class _Question:
    def __init__(self) -> None:
        self.answered = threading.Event()
        self.stop = True
        self.trouble = ""


class Breakpoints:
    """ask(serial, event): called when the other side is to decide, which calls `answer(serial, ...)`.
    say: told, in words, of a condition that is taken off."""

    def __init__(self, machine: _Machine) -> None:
        self._machine = machine
        self.ask: Callable[[int, BreakEvent], None] = lambda serial, event: self.answer(
            serial, True
        )
        self.say: Callable[[str], None] = lambda text: None
        self._all: dict[int, _Breakpoint] = {}
        self._last = 0
        self._lock = threading.RLock()
        self._asked: dict[int, _Question] = {}
        self._serial, self._asked_at = 0, 0.0
        self._lines: set[int] = set()

    # -- what there is ---------------------------------------------------------------------------------

    @property
    def entries(self) -> list[BreakEntry]:
        return [one.entry for one in list(self._all.values())]

    def get(self, number: int) -> BreakEntry:
        return self._find(number).entry

    def _find(self, number: int) -> _Breakpoint:
        found = self._all.get(number)
        if found is None:
            raise UnknownName(unknown("breakpoint", number, map(str, self._all)))
        return found

    def add(self, spec: BreakSpec) -> BreakEntry:
        """ConfigError, DeviceNotFound, EngineError for what cannot be watched."""
        with self._changing():
            if len(self._all) >= MOST:
                raise ConfigError(f"a machine has at most {MOST} breakpoints; delete some")
            made = _Breakpoint(self._last + 1, self._checked(spec))
            self._all[made.number] = made
            try:
                self._arm()
            except BaseException:
                del self._all[made.number]
                self._arm()
                raise
            self._last = made.number
            return made.entry

    def change(self, number: int, enabled: bool) -> None:
        with self._changing():
            self._find(number).enabled = enabled
            self._arm()

    def remove(self, number: int) -> None:
        with self._changing():
            self._find(number)
            del self._all[number]
            self._arm()

    def discard(self, number: int) -> None:
        """`remove`, where it may be gone."""
        if number in self._all:
            self.remove(number)

    def remove_owned(self, owner: str) -> None:
        """All of that owner's."""
        with self._changing():
            self._all = {n: one for n, one in self._all.items() if one.spec.owner != owner}
            self._arm()

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        with self._machine.at_rest(), self._lock:
            yield

    def _checked(self, spec: BreakSpec) -> BreakSpec:
        if spec.kind == "register":
            self._places(spec)
        elif spec.kind == "io":
            bus = self._machine.ports if spec.space == "port" else self._machine.mmio
            if spec.address < 0 or spec.size < 1 or spec.address + spec.size > bus.limit:
                raise ConfigError(
                    f"[{spec.address:#x}, {spec.address + spec.size:#x}) is not in the {spec.space} space,"
                    f" which ends at {bus.limit:#x}"
                )
        elif spec.kind == "irq":
            held = sorted(
                one.irq
                for one in self._machine.device_manager.devices.values()
                if one.irq is not None
            )
            if spec.line not in held:
                raise UnknownName(unknown("interrupt line", spec.line, map(str, held)))
        return spec

    # -- putting them in place -------------------------------------------------------------------------

    def rearm(self) -> None:
        """Memory and CPUs are new, or devices have come or gone."""
        with self._lock:
            self._arm()

    def _arm(self) -> None:
        """Nothing runs, and the lock is held."""
        enabled = [one for one in self._all.values() if one.enabled]
        points = [_point(one) for one in enabled if one.spec.kind in _ENGINE_KINDS]
        ways = self._machine.engine.set_points(points)
        for point, how in zip(points, ways, strict=True):
            self._all[point.number].how = how
        trapping: set[int] = set()
        for space, bus in (("port", self._machine.ports), ("mmio", self._machine.mmio)):
            watched = []
            for one in enabled:
                one.places = self._places_now(one.spec)
                watched += [(start, end, one) for at, start, end in one.places if at == space]
                one.how = one.how or "bus"
            trapping |= {
                one.start
                for one in bus.ranges
                for start, end, _ in watched
                if start < one.end and one.start < end
            }
            bus.guard(self._guard(bus, watched) if watched else None)
        self._machine.device_manager.trap_doorbells(trapping)
        self._tap({one.spec.line for one in enabled if one.spec.kind == "irq"})

    def _tap(self, lines: set[int]) -> None:
        wires = self._machine.device_manager.wires
        for line in self._lines | lines:
            wires.tap(line, self._rises(line) if line in lines else None)
        self._lines = lines
        for one in self._all.values():
            if one.spec.kind == "irq":
                one.how = "line"

    def _places_now(self, spec: BreakSpec) -> list[tuple[str, int, int]]:
        """As `_places`; a device that has left, or has no such register any more, is nowhere."""
        if spec.kind == "io":
            return [(spec.space, spec.address, spec.address + spec.size)]
        if spec.kind != "register":
            return []
        with contextlib.suppress(ConfigError, LookupError):
            if spec.device in self._machine.device_manager.devices:
                return self._places(spec)
        return []

    def _places(self, spec: BreakSpec) -> list[tuple[str, int, int]]:
        """Where a device's register is on its bus, which may have the device at several places."""
        plugged = find(self._machine.device_manager.devices, spec.device)
        device = plugged.device
        table = device.regs.by_name
        bus = self._machine.ports if plugged.space == "port" else self._machine.mmio
        ranges = [one for one in bus.ranges if one.device is device]
        if not spec.register:
            return [(plugged.space, one.start, one.end) for one in ranges]
        if spec.register not in table:
            raise UnknownName(f"{spec.device!r} has {unknown('register', spec.register, table)}")
        row = table[spec.register]
        found = []
        for one in ranges:
            start = one.start + row.offset - one.offset
            if one.start <= start < one.end:
                found.append((plugged.space, start, min(start + row.size, one.end)))
        return found

    # -- what is met -----------------------------------------------------------------------------------

    def _guard(
        self, bus: Bus, watched: list[tuple[int, int, _Breakpoint]]
    ) -> Callable[[int, int, int | None], bool]:
        """See `Bus.guard`."""
        low, high = min(one[0] for one in watched), max(one[1] for one in watched)
        engine = self._machine.engine

        def let_in(address: int, size: int, value: int | None) -> bool:
            if address >= high or address + size <= low:
                return True
            for start, end, one in watched:
                wanted = one.spec.write if value is not None else one.spec.read
                if wanted and address < end and start < address + size:
                    event = self._accessed(bus, one, address, size, value)
                    if event is not None and self._weigh(one, event):
                        self._machine.stop_at(event)
                        return engine.park()
            return True

        return let_in

    def _accessed(
        self, bus: Bus, one: _Breakpoint, address: int, size: int, value: int | None
    ) -> BreakEvent | None:
        found = bus.find(address)
        name = register = ""
        if found is not None:
            name, register = found.name, found.register_at(address, size, value is not None)
            if one.spec.register and register and register != one.spec.register:
                return None  # another bank of the same address
        cpu, pc = self._machine.engine.access_here(port=bus is self._machine.ports)
        return self._event(
            *(one, cpu, pc or 0, address, size, value, value is not None, name, register)
        )

    def _event(
        self,
        one: _Breakpoint,
        cpu: int,
        pc: int,
        address: int = 0,
        size: int = 0,
        value: int | None = None,
        write: bool = False,
        device: str = "",
        register: str = "",
    ) -> BreakEvent:
        spec = one.spec
        return BreakEvent(
            *(one.number, spec.kind, cpu, time.monotonic(), pc, address, size, value, write),
            *(device, register, spec.label, spec.owner),
        )

    def met(self, cpu: int, hit: Hit) -> None:
        """The engine's `on_break`."""
        one = self._all.get(hit.number)
        if one is not None:
            event = self._event(
                *(one, cpu, hit.pc, hit.address or hit.pc, hit.size, hit.value, hit.write)
            )
            if self._weigh(one, event):
                self._machine.stop_at(event)

    def _rises(self, line: int) -> Callable[[], None]:
        """It may be any thread, a device's with its locks: it does not wait here for who decides."""

        def rises() -> None:
            for one in list(self._all.values()):
                if one.spec.kind != "irq" or one.spec.line != line or not one.enabled:
                    continue
                event = self._event(one, self._machine.engine.current_cpu(), 0)
                if not one.spec.asks:
                    if self._weigh(one, event):
                        self._machine.stop_at(event)
                    continue
                threading.Thread(
                    target=self._decide, args=(one, event), name="vmlab-break", daemon=True
                ).start()

        return rises

    def _decide(self, one: _Breakpoint, event: BreakEvent) -> None:
        with self._machine.at_rest():
            if self._weigh(one, event):
                self._machine.stop_at(event)

    def _weigh(self, one: _Breakpoint, event: BreakEvent) -> bool:
        """Whether the machine stops. Counts the hit."""
        spec = one.spec
        if not one.enabled or self._machine.muted:
            return False
        if spec.value is not None and event.value != spec.value:
            return False
        if spec.asks and not self._ask(one, event):
            return False
        with self._lock:
            one.hits += 1
            if one.hits < spec.count:
                return False
            if spec.once:
                one.enabled = False
        return True

    def _ask(self, one: _Breakpoint, event: BreakEvent) -> bool:
        with self._lock:
            wait = self._asked_at + BETWEEN - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            self._serial += 1
            serial, question = self._serial, _Question()
            self._asked[serial] = question
            self._asked_at = time.monotonic()
        end = time.monotonic() + ANSWER
        try:
            self.ask(serial, event)
            while not question.answered.wait(_LOOK):
                if self._machine.muted:
                    return False
                if time.monotonic() >= end:
                    question.trouble = f"it has not returned for {ANSWER:g} s"
                    break
        finally:
            self._asked.pop(serial, None)
        if question.trouble:
            one.spec = replace(one.spec, asks=False)
            self.say(
                f"breakpoint {one.number} ({one.spec.label}): its condition is taken off:"
                f" {question.trouble}; the guest is paused"
            )
        return question.stop

    def answer(self, serial: int, stop: bool, trouble: str = "") -> None:
        """What the condition says; trouble: it raised that. A late answer is none."""
        question = self._asked.get(serial)
        if question is not None:
            question.stop, question.trouble = stop or bool(trouble), trouble
            question.answered.set()

    def drop_spent(self) -> None:
        """Those that were to stop the machine once, and have. Nothing runs."""
        with self._lock:
            spent = [
                n for n, one in self._all.items() if one.spec.once and not one.enabled and one.hits
            ]
            for number in spent:
                del self._all[number]
            if spent:
                self._arm()


def _point(one: _Breakpoint) -> Point:
    spec = one.spec
    if spec.kind == "code":
        return Point(one.number, "code", spec.address)
    kind = "access" if spec.read and spec.write else "write" if spec.write else "read"
    return Point(one.number, kind, spec.address, spec.size)  # type: ignore[arg-type]

"""The event log: every access with its register's name, and what became of it; the last N kept."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from msgspec import Struct

from vmlab.core.bus import Bus, BusRange
from vmlab.core.safely import short

__all__ = [
    "ACCESSES",
    "GROUPS",
    "KINDS",
    "TraceFilter",
    "TraceLog",
    "TraceRecord",
    "expanded",
    "known_kinds",
]

ACCESSES = ("read", "write")
#: kind -> what has happened
KINDS = {
    "read": "a CPU has read a register, or an address where nothing answers",
    "write": "a CPU writes one",
    "raise": "an interrupt line goes up; of a pulse it is down again at once",
    "lower": "an interrupt line goes down",
    "deliver": "the interrupt controllers took it, where the engine can tell",
    "ack": "a CPU takes an interrupt, where the engine knows",
    "eoi": "a CPU says that it has served one, where the engine knows",
    "output": "bytes that the guest has sent to a console",
    "input": "bytes that a console was sent",
    "kick": "a queue was notified without a trap (ioeventfd)",
    "added": "a device was plugged in",
    "seen": "the guest has come to know a device",
    "driver_ok": "its driver has set it up",
    "failed": "its driver has given it up, or it needs a reset",
    "removing": "the guest is asked to let it go",
    "removed": "it was unplugged",
    "replaced": "another device has taken its place",
    "fault": "a device's code has raised",
    "mistake": "the guest did what a device's data sheet forbids",
}
#: names for several kinds
GROUPS = {
    "access": ACCESSES,
    "irq": ("raise", "lower", "deliver", "ack", "eoi"),
    "console": ("output", "input"),
    "hotplug": ("added", "seen", "driver_ok", "failed", "removing", "removed", "replaced", "fault"),
}
#: bytes of a console that one event tells of, and characters of any other text
RUN, TEXT = 240, 240
#: consoles whose bytes are gathered
_CONSOLES = 256


class TraceRecord(NamedTuple):
    """What has happened. What does not apply is None, or "".

    time: seconds since the log began. cpu: whose doing it was, where that is known. kind: one of `KINDS`.
    device: an id, "" where nothing answered; of a line that several hold, who drove it. register: "" where
    there is none. size: in bytes. value: what was read or written; of a kick the queue; of console bytes the
    port; of "ack" and "eoi" the vector (x86_64), INTID (arm64) or source (RISC-V). pc: where the access's
    instruction lies, its first byte or, of a write under KVM on x86_64, one of its bytes. line: of the
    interrupt. space: "mmio" or "port", of `address`. text: the bytes of a console, the words of a mistake or
    a fault, "pulse".
    """

    time: float
    cpu: int | None
    kind: str
    device: str = ""
    register: str = ""
    size: int | None = None
    value: int | None = None
    pc: int | None = None
    line: int | None = None
    space: str = ""
    address: int | None = None
    text: str = ""

    @property
    def write(self) -> bool | None:
        """Of an access, which one it is."""
        return self.kind == "write" if self.kind in ACCESSES else None

    def told(self, device: bool = True) -> str:
        """ "write QueueReady = 1"; device: with whose it is."""
        name = ".".join(filter(None, (self.device if device else "", self.register)))
        if self.kind in ACCESSES:
            if not self.register:
                where = f"{self.space} {self.address:#x}"
                name = f"{self.device}: {where}" if device and self.device else where
            return f"{self.kind:<5} {name} = {_number(self.value)}"
        if self.kind in GROUPS["irq"]:
            number = "" if self.value is None else f" {self.value}"
            line = "" if self.line is None else f" line {self.line}"
            whose = f" of {self.device}" if device and self.device else ""
            return f"{self.kind:<5}{number}{line}{whose}" + (f", {self.text}" if self.text else "")
        if self.kind in GROUPS["console"]:
            port = f" port {self.value}" if self.value else ""
            return f"{self.kind} {self.device}{port} {self.text!r}"
        if self.kind == "kick":
            return f"kick  {name} = {self.value}" + (f", {self.text}" if self.text else "")
        return f"{self.kind} {self.device}" + (f": {self.text}" if self.text else "")


def _number(value: int | None) -> str:
    return f"{value}" if value is None or value < 10 else f"{value:#x}"


class TraceFilter(Struct, frozen=True):
    """What a log keeps. None: all; kinds are those of `KINDS`."""

    devices: frozenset[str] | None = None
    kinds: frozenset[str] | None = None
    registers: frozenset[str] | None = None
    cpus: frozenset[int] | None = None

    @classmethod
    def of(
        cls,
        devices: Iterable[str] | None,
        kinds: Iterable[str] | None,
        registers: Iterable[str] | None,
        cpus: Iterable[int] | None,
    ) -> TraceFilter:
        parts: list[Any] = [
            None if part is None else frozenset(part) for part in (devices, kinds, registers, cpus)
        ]
        return cls(*parts)

    @property
    def lists(self) -> list[list[Any] | None]:
        """Its parts as they travel."""
        parts = (self.devices, self.kinds, self.registers, self.cpus)
        return [None if part is None else sorted(part) for part in parts]

    @property
    def one_device(self) -> bool:
        return self.devices is not None and len(self.devices) == 1

    def has_kind(self, *kinds: str) -> bool:
        """Whether any of them is wanted."""
        return self.kinds is None or not self.kinds.isdisjoint(kinds)

    @property
    def takes_accesses(self) -> bool:
        """Whether every access is wanted."""
        others = (self.devices, self.registers, self.cpus)
        return others == (None, None, None) and (
            self.kinds is None or self.kinds.issuperset(ACCESSES)
        )

    def wants(self, kind: str, device: str, register: str, cpu: int | None) -> bool:
        return (
            (self.kinds is None or kind in self.kinds)
            and (self.devices is None or device in self.devices)
            and (self.cpus is None or cpu in self.cpus)
            and (self.registers is None or not self.registers.isdisjoint(register.split("+")))
        )


class _Run:
    """Console bytes that came one after the other."""

    __slots__ = ("data", "number", "record")

    def __init__(self, record: TraceRecord, number: int) -> None:
        self.record, self.number, self.data = record, number, bytearray()

    @property
    def ended(self) -> bool:
        return len(self.data) >= RUN or self.data[-1:] == b"\n"

    def told(self) -> TraceRecord:
        text = self.data.decode("utf-8", "backslashreplace")
        return self.record._replace(size=len(self.data), text=text)


class TraceLog:
    """Observes buses, and is told of the rest. Bounded: the oldest entries go when `last` are there."""

    def __init__(self, last: int = 10_000, wanted: TraceFilter = TraceFilter()) -> None:  # noqa: B008  frozen
        self.wanted = wanted
        self._events: deque[TraceRecord | _Run] = deque(maxlen=last)
        self._lock = threading.Lock()
        self._start = time.perf_counter()
        self._buses: list[Bus] = []
        #: entries so far, and those that were taken
        self._count = self._taken = 0
        self._runs: dict[tuple[str, str, int], _Run] = {}
        #: devices whose first access is told of
        self.unseen: set[str] = set()

    def watch(self, bus: Bus, where: Callable[[], tuple[int, int | None]]) -> None:
        """where() -> (the CPU whose access it is, its program counter)."""
        if not self.wanted.has_kind(*ACCESSES, "seen"):
            return
        space, start, clock, lock = bus.name, self._start, time.perf_counter, self._lock
        wants = None if self.wanted.takes_accesses else self.wanted.wants
        unseen, append, new = self.unseen, self._events.append, tuple.__new__

        def seen(found: BusRange | None, address: int, size: int, value: int, write: bool) -> None:
            name = register = ""
            if found is not None:
                name = found.name
                register = found.register_at(address, size, write)
            kind = "write" if write else "read"
            cpu, pc = where()
            if unseen and name in unseen:
                unseen.discard(name)
                self.add("seen", name, cpu)
            if wants is not None and not wants(kind, name, register, cpu):
                return
            with lock:  # the clock as well: what is later in the log was not earlier
                now = clock() - start
                # fmt: off
                append(new(TraceRecord, (
                    now, cpu, kind, name, register, size, value, pc, None, space, address, "",
                )))
                # fmt: on
                self._count += 1

        bus.observe(seen)
        if bus not in self._buses:
            self._buses.append(bus)

    def _append(self, entry: TraceRecord | _Run) -> None:
        """The lock is held."""
        self._events.append(entry)
        self._count += 1

    def add(
        self,
        kind: str,
        device: str = "",
        cpu: int | None = None,
        register: str = "",
        size: int | None = None,
        value: int | None = None,
        line: int | None = None,
        text: str = "",
    ) -> None:
        """One that is no access."""
        if self.wanted.wants(kind, device, register, cpu):
            text = short(text, TEXT)
            with self._lock:
                now = time.perf_counter() - self._start
                self._append(
                    TraceRecord(
                        *(now, cpu, kind, device, register, size, value), line=line, text=text
                    )
                )

    def add_bytes(self, kind: str, device: str, port: int, data: bytes, cpu: int | None) -> None:
        """Of a console, gathered line by line; at the time of the first."""
        if not self.wanted.wants(kind, device, "", cpu):
            return
        key, at = (kind, device, port), 0
        with self._lock:
            now = time.perf_counter() - self._start
            gone = self._count - len(self._events)
            run = self._runs.get(key)
            while at < len(data):
                if run is None or run.ended or run.number < gone:
                    run = _Run(TraceRecord(now, cpu, kind, device, value=port), self._count)
                    self._append(run)
                    if len(self._runs) >= _CONSOLES:
                        self._runs.clear()
                    self._runs[key] = run
                end = data.find(b"\n", at) + 1 or len(data)
                end = min(end, at + RUN - len(run.data))
                run.data += data[at:end]
                at = end

    def stop(self) -> None:
        for bus in self._buses:
            bus.observe(None)
        self._buses.clear()

    def take(self, limit: int | None = None) -> tuple[list[TraceRecord], int]:
        """The entries since the last `take`, oldest first and at most `limit`, and how many were
        dropped since the beginning."""
        with self._lock:
            count = len(self._events) if limit is None else min(limit, len(self._events))
            taken = [self._events.popleft() for _ in range(count)]
            self._taken += count
            dropped = self._count - self._taken - len(self._events)
        return [one.told() if isinstance(one, _Run) else one for one in taken], dropped


def expanded(kinds: Iterable[str]) -> frozenset[str]:
    """Groups as the kinds that they are; what is neither stays."""
    return frozenset(each for kind in kinds for each in GROUPS.get(kind, (kind,)))


def known_kinds() -> list[str]:
    """And the names for several of them."""
    return [*KINDS, *GROUPS]

"""One event of a log, as people hold it, and what is told of many."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import Struct, field

from vmlab.core.trace import TraceFilter, TraceRecord
from vmlab.errors import ConfigError
from vmlab.vm.backtrace import Names

__all__ = ["ByFunction", "FunctionRow", "TraceEvent", "by_function", "filter_of", "function_of"]


class TraceEvent(TraceRecord):
    """What has happened, and which code did it; names are looked up when they are asked for."""

    #: who names code
    names: Names | None = None
    #: whether it is printed with its device
    named: bool = True

    @property
    def function(self) -> str:
        """ "virtio_blk_init+0x3a"; "" where no symbol covers `pc`."""
        return self.names.function(self.pc) if self.names is not None else ""

    @property
    def source(self) -> str:
        """ "blk.c:42"; "" where no line is known."""
        return self.names.source(self.pc) if self.names is not None else ""

    def __str__(self) -> str:
        """ "0.000123 cpu0 virtio_blk_init+0x3a (blk.c:42)  write QueueReady = 1"; in a log of several devices
        with the device."""
        return self.line_of_text(self.named)

    def line_of_text(self, named: bool) -> str:
        """named: with the device."""
        parts = [f"{self.time:.6f}"]
        if self.cpu is not None:
            parts.append(f"cpu{self.cpu}")
        if self.pc is not None:
            parts.append(self.function or f"{self.pc:#x}")
        if source := self.source:
            parts.append(f"({source})")
        text = f"{' '.join(parts)}  {self.told(named)}"
        # a file may hold anything, and a terminal believes what it is sent
        return text if text.isprintable() else repr(text)[1:-1]


class FunctionRow(Struct):
    """One function's accesses, and the ids of the devices that they went to."""

    function: str
    reads: int = 0
    writes: int = 0
    devices: set[str] = field(default_factory=set)


class ByFunction(list[FunctionRow]):
    """It prints as a table."""

    def __repr__(self) -> str:
        if not self:
            return "<no access yet>"
        rows = [f"{'reads':>10} {'writes':>10}  {'function':<32} devices"]
        for row in self:
            devices = ", ".join(sorted(row.devices))
            rows.append(f"{row.reads:>10,} {row.writes:>10,}  {row.function:<32} {devices}")
        return "\n".join(rows)


def by_function(events: list[TraceEvent]) -> ByFunction:
    """See `Events.by_function`."""
    rows: dict[str, FunctionRow] = {}
    for event in events:
        if event.write is None:
            continue
        name = function_of(event)
        row = rows.setdefault(name, FunctionRow(name))
        row.reads += not event.write
        row.writes += event.write
        row.devices.add(event.device or "unmapped")
    return ByFunction(sorted(rows.values(), key=lambda row: -(row.reads + row.writes)))


def function_of(event: TraceEvent) -> str:
    """Whose access it is: a function's, else an address'."""
    name = event.function.rpartition("+")[0]
    return name or ("unknown" if event.pc is None else f"{event.pc:#x}")


def filter_of(device: Any, kinds: Any, register: Any, cpu: Any) -> TraceFilter:
    """Of one name or several, each; ConfigError for what is neither."""
    return TraceFilter(
        _set_of("device", device, str),
        _set_of("kinds", kinds, str),
        _set_of("register", register, str),
        _set_of("cpu", cpu, int),
    )


def _set_of(name: str, given: Any, kind: type) -> frozenset[Any] | None:
    if given is None:
        return None
    found = [given] if isinstance(given, kind) or not isinstance(given, Iterable) else [*given]
    if not all(isinstance(one, kind) for one in found):
        word = "a name" if kind is str else "a number"
        raise ConfigError(f"trace({name}={given!r:.60}): {word}, or several of them in a list")
    if not found:
        raise ConfigError(f"trace({name}=...): none is named, so that nothing would be logged")
    return frozenset(found)

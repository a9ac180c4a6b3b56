"""The access log, as people hold it."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from typing import Self

from msgspec import Struct, field

from vmlab.core.trace import AccessEvent
from vmlab.errors import MonitorLost, StateError
from vmlab.monitor import wire
from vmlab.vm.connection import Connection
from vmlab.vm.symbols import Symbols

__all__ = ["ByFunction", "FunctionRow", "Trace", "TraceEvent", "describe"]


class TraceEvent(AccessEvent):
    """An access, and who made it; names are looked up when they are asked for."""

    symbols: Symbols | None = None

    @property
    def function(self) -> str:
        """ "virtio_blk_init+0x3a"; "" without `vm.load_symbols`, or where no symbol covers `pc`."""
        return self.symbols.function(self.pc) if self.symbols is not None else ""

    @property
    def source(self) -> str:
        """ "blk.c:42"; "" where no line is known."""
        return self.symbols.source(self.pc) if self.symbols is not None else ""

    def __str__(self) -> str:
        return describe(self)


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


class Trace:
    """An access log that runs until `stop`, the end of its `with`, another log or the machine's end.

    The newest `last` accesses are kept."""

    def __init__(self, connection: Connection, last: int, symbols: Symbols | None = None) -> None:
        self._connection = connection
        #: who names what the accesses' program counters point at
        self.symbols = symbols
        self._events: deque[TraceEvent] = deque(maxlen=last)
        self._taken = 0
        self._on = True
        self._lost = 0

    @property
    def events(self) -> list[TraceEvent]:
        """What is kept, oldest first."""
        self.fetch()
        events = list(self._events)
        for event in events:
            event.symbols = self.symbols
        return events

    @property
    def dropped(self) -> int:
        """Accesses that were logged and are not kept any more."""
        self.fetch()
        return self._lost + self._taken - len(self._events)

    def fetch(self) -> None:
        """Take over what the machine has logged. Nothing more comes from a machine that is gone."""
        while self._on:
            try:
                reply = self._connection.call(wire.TakeTrace(), fault=False)
            except (MonitorLost, StateError):
                self._on = False
                return
            self._events.extend(TraceEvent(*row) for row in reply.events)
            self._taken += len(reply.events)
            self._lost = reply.dropped
            if len(reply.events) < wire.TRACE_PART:
                return

    def stop(self) -> None:
        """Stop logging; the events stay."""
        self.fetch()
        if self._on:
            self._on = False
            with contextlib.suppress(MonitorLost, StateError):
                self._connection.call(wire.Trace(False, 1, None), fault=False)

    def by_function(self) -> ByFunction:
        """Who accessed devices how often, the busiest first; where no symbol covers it, by address."""
        rows: dict[str, FunctionRow] = {}
        for event in self.events:
            name = event.function.rpartition("+")[0] or (
                "unknown" if event.pc is None else f"{event.pc:#x}"
            )
            row = rows.setdefault(name, FunctionRow(name))
            row.reads += not event.write
            row.writes += event.write
            row.devices.add(event.device or "unmapped")
        return ByFunction(sorted(rows.values(), key=lambda row: -(row.reads + row.writes)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __iter__(self) -> Iterator[TraceEvent]:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self.events)

    def __repr__(self) -> str:
        return "\n".join(describe(event) for event in self.events[-20:]) or "<no access yet>"


def describe(event: TraceEvent) -> str:
    """One line: when, which CPU, from which instruction, what, where."""
    what = "write" if event.write else "read "
    name = f"{event.device}.{event.register}" if event.register else event.device or "unmapped"
    pc = "" if event.pc is None else event.function or f"{event.pc:#x}"
    if source := event.source:
        pc += f" ({source})"
    return (
        f"{event.time * 1e3:10.3f} ms  cpu{event.cpu}  {pc:>18}  {what} {event.size}  {event.address:#012x}"
        f"  {event.value:#0{2 + 2 * event.size}x}  {name}"
    )

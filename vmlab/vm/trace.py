"""The event log, as people hold it."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Self

from msgspec import Struct, field

from vmlab.core.trace import TraceFilter, TraceRecord
from vmlab.errors import ConfigError, MonitorLost, StateError
from vmlab.monitor import wire
from vmlab.vm.backtrace import Names
from vmlab.vm.connection import Connection

__all__ = ["ByFunction", "FunctionRow", "Trace", "TraceEvent"]


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
        return f"{' '.join(parts)}  {self.told(named)}"


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
    """An event log that runs until `stop`, the end of its `with`, another log or the machine's end.

    The newest `last` events are kept."""

    def __init__(
        self,
        connection: Connection,
        last: int,
        wanted: TraceFilter = TraceFilter(),  # noqa: B008  frozen
        names: Names | None = None,
    ) -> None:
        self._connection = connection
        self._names = names
        self._named = wanted.devices is None or len(wanted.devices) != 1
        self._events: deque[TraceEvent] = deque(maxlen=last)
        self._taken = 0
        self._on = True
        self._lost = 0

    @property
    def events(self) -> list[TraceEvent]:
        """What is kept, oldest first."""
        return self.since(0)

    @property
    def total(self) -> int:
        """Events that have come here so far, those that are not kept any more included."""
        self.fetch()
        return self._taken

    def since(self, number: int) -> list[TraceEvent]:
        """Those that are kept of the events from the `number`-th on, the first being 0; with the `total` of
        the last look, what is new."""
        self.fetch()
        skip = max(0, number - (self._taken - len(self._events)))
        events = list(self._events)[skip:]
        for event in events:
            event.names, event.named = self._names, self._named
        return events

    @property
    def dropped(self) -> int:
        """Events that were logged and are not kept any more."""
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
            self._events.extend(map(TraceEvent._make, reply.events))
            self._taken += len(reply.events)
            self._lost = reply.dropped
            if len(reply.events) < wire.TRACE_PART:
                return

    def replaced(self) -> None:
        """Another log has begun in its place."""
        self._on = False

    def stop(self) -> None:
        """Stop logging; the events stay."""
        self.fetch()
        if self._on:
            self._on = False
            with contextlib.suppress(MonitorLost, StateError):
                self._connection.call(wire.Trace(False), fault=False)

    def by_function(self) -> ByFunction:
        """Who accessed devices how often, the busiest first; where no symbol covers it, by address."""
        rows: dict[str, FunctionRow] = {}
        for event in self.events:
            if event.write is None:
                continue
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
        """The newest, each with its device."""
        return (
            "\n".join(event.line_of_text(True) for event in self.events[-20:]) or "<no event yet>"
        )

    def __str__(self) -> str:
        return "\n".join(map(str, self.events)) or "<no event yet>"


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

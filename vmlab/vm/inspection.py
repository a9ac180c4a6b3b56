"""What can be seen of a machine, by the names that people ask for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vmlab.core.memory import GuestMemory
from vmlab.errors import ConfigError
from vmlab.monitor import wire
from vmlab.vm.code_names import CodeNames
from vmlab.vm.connection import Connection
from vmlab.vm.symbols import Symbols
from vmlab.vm.trace import Trace
from vmlab.vm.trace_event import filter_of
from vmlab.vm.views import (
    AddressMap,
    Cpu,
    Devices,
    DeviceView,
    IrqRow,
    IrqTable,
    Traps,
    address_map,
)

__all__ = ["Inspection"]


class Inspection:
    """Counters and directory are shared with the monitor: most of this costs the guest nothing."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._trace: Trace | None = None
        #: who names the guest's code
        self.names = CodeNames(connection)
        self._shown: dict[int, dict[str, int]] = {}

    @property
    def devices(self) -> Devices:
        entries = self.connection.entries_or_build()
        return Devices({entry.id: DeviceView(self.connection, entry) for entry in entries})

    @property
    def traps(self) -> Traps:
        seen = self.connection.observation
        return Traps({entry.id: seen.counts(entry) for entry in seen.directory()}, seen.unmapped)

    @property
    def irqs(self) -> IrqTable:
        return IrqTable(
            IrqRow(lamp.line, ", ".join(lamp.holders), lamp.raised, lamp.delivered, lamp.level)
            for lamp in self.connection.observation.lamps()
        )

    @property
    def address_map(self) -> AddressMap:
        config = self.connection.config
        return address_map(config.platform, config.memory, list(self.connection.entries_or_build()))

    @property
    def memory(self) -> GuestMemory:
        return self.connection.up().memory

    @property
    def cpus(self) -> list[Cpu]:
        return [
            Cpu(self.connection, index, self.names, self._shown)
            for index in range(self.connection.config.cpus)
        ]

    @property
    def exits(self) -> dict[str, int]:
        return dict(self.connection.observation.exits().exits)

    @property
    def unmapped(self) -> dict[tuple[str, int | None], tuple[int, int]]:
        found = self.connection.observation.exits().unmapped
        return {(space, at): (reads, writes) for space, at, reads, writes in found}

    def trace(self, last: int, device: Any, kinds: Any, register: Any, cpu: Any) -> Trace:
        """Each of one name, several, or None for all."""
        wanted = filter_of(device, kinds, register, cpu)
        before = self._trace
        if before is not None:
            before.fetch()
        self.connection.call(wire.Trace(True, last, *wanted.lists))
        if before is not None:
            before.replaced()
        self._trace = Trace(self.connection, last, wanted, self.names)
        return self._trace

    @property
    def symbols(self) -> Symbols | None:
        return self.names.symbols

    def load_symbols(self, path: str | Path, at: int | None) -> Symbols:
        return self.names.load(path, at)

    def address_of(self, symbol: str) -> int:
        """From the symbols that were loaded, or the image's own."""
        symbols = self.symbols
        if symbols is None:
            raise ConfigError(
                f"{symbol!r}: the image has no symbols; vm.load_symbols(path) gives some, or give an address"
            )
        return symbols.address_of(symbol)

    def stop_trace(self) -> None:
        if self._trace is not None:
            self._trace.stop()
            self._trace = None

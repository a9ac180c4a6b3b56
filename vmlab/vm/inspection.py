"""What can be seen of a machine, by the names that people ask for it."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, cast

from vmlab.core.counters import UNMAPPED_READS, UNMAPPED_WRITES, Block, DeviceCounts
from vmlab.core.memory import GuestMemory, ram_layout
from vmlab.errors import VmlabError
from vmlab.machine.config import DeviceEntry
from vmlab.monitor import wire
from vmlab.monitor.local import COMMAND_TIMEOUT
from vmlab.vm.connection import Held
from vmlab.vm.stats import stats
from vmlab.vm.trace import Trace
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

if TYPE_CHECKING:
    from vmlab.vm import VM

__all__ = ["Seen"]

#: seconds that the machine has, at its end, to tell its devices' register values
VALUES = 0.5


class Seen(Held):
    """Counters and directory are shared with the monitor: most of this costs the guest nothing."""

    @property
    def _vm(self) -> VM:
        """Itself, as what its views hold."""
        return cast("VM", self)

    @property
    def devices(self) -> Devices:
        """id -> DeviceView, by address."""
        if self._session is None and self._state == "created":
            self._up()
        return Devices({entry.id: DeviceView(self._vm, entry) for entry in self._entries()})

    def _plugged(self, entry: DeviceEntry) -> bool:
        """Whether the device of a view is still the one in its place."""
        return any(one.id == entry.id and one.block == entry.block for one in self._entries())

    def _counts(self, entry: DeviceEntry) -> DeviceCounts:
        session = self._session
        names = [row.name for row in entry.registers]
        if session is None:
            kept: DeviceCounts | None = self._last.get("devices", {}).get(entry.id)
            return kept or Block.private(names).counts()
        if not self._plugged(entry):
            # its words in the page are another's by now
            return Block.private(names).counts()
        return session.page.attach(entry.block, names).counts()

    def _peek(self, id: str) -> dict[str, Any]:
        registers, attributes = self._peek_both(id)
        return {**attributes, **registers}

    def _peek_both(self, id: str) -> tuple[dict[str, Any], dict[str, Any]]:
        reply: wire.Peeked = self._call(wire.Peek(id))
        return reply.registers, reply.attributes

    @property
    def traps(self) -> Traps:
        """A snapshot of every count; reading it costs the guest nothing."""
        entries = self._entries()
        words = self._session.page.words if self._session is not None else None
        unmapped = (
            (words[UNMAPPED_READS], words[UNMAPPED_WRITES])
            if words is not None
            else self._last.get("unmapped", (0, 0))
        )
        return Traps({entry.id: self._counts(entry) for entry in entries}, unmapped)

    @property
    def irqs(self) -> IrqTable:
        """The interrupt lines that a device holds."""
        if self._session is None:
            kept: IrqTable = self._last.get("irqs") or IrqTable()
            return kept
        entries = self._entries()
        holders: dict[int, list[str]] = {}
        for entry in entries:
            if entry.irq is not None:
                holders.setdefault(entry.irq, []).append(entry.id)
        page = self._session.page
        return IrqTable(
            IrqRow(line, ", ".join(ids), *page.line(line)) for line, ids in sorted(holders.items())
        )

    @property
    def address_map(self) -> AddressMap:
        """Every range of the guest's physical space, RAM and holes included, by address."""
        return address_map(ram_layout(self.config.memory), list(self._entries_or_build()))

    @property
    def memory(self) -> GuestMemory:
        """The guest's RAM: shared, so `view` is no copy."""
        return self._up().memory

    @property
    def cpus(self) -> list[Cpu]:
        return [Cpu(self._vm, index) for index in range(self.config.cpus)]

    def _get_regs(self, cpu: int) -> dict[str, int]:
        values: dict[str, int] = self._call(wire.GetRegs(cpu)).values
        return values

    def _set_regs(self, cpu: int, values: dict[str, int]) -> None:
        self._call(wire.SetRegs(cpu, values))

    @property
    def uptime(self) -> float:
        """Seconds since `start`, up to the machine's end."""
        end = self._ended or time.monotonic()
        return max(end - self._started, 0.0) if self._started is not None else 0.0

    @property
    def exits(self) -> dict[str, int]:
        """How often a vCPU left the guest, by kind."""
        return dict(self._exits().exits)

    @property
    def _exit_count(self) -> int:
        """All of `exits`, from the shared counters."""
        session = self._session
        if session is None:
            kept: int = self._last.get("exit_count", 0)
            return kept
        return session.page.exits(self.config.cpus)

    @property
    def unmapped(self) -> dict[tuple[str, int | None], tuple[int, int]]:
        """(space, address) -> (reads, writes) of accesses that hit nothing; an address of None gathers
        those past the first 4,096."""
        return {(space, at): (reads, writes) for space, at, reads, writes in self._exits().unmapped}

    def _exits(self, timeout: float = COMMAND_TIMEOUT) -> wire.ExitCounts:
        if self._session is None:
            return self._last.get("exits") or wire.ExitCounts({}, [])
        counts: wire.ExitCounts = self._session.call(wire.Exits(), timeout)
        return counts

    def trace(self, last: int = 10_000, device: str | None = None) -> Trace:
        """Begin an access log; the last `last` accesses are kept, of one device or of all.

        with vm.trace() as log:
            vm.console.run("peek 0xd0000000")
        log.events
        """
        if self._trace is not None:
            self._trace.stop()
        self._call(wire.Trace(True, last, device))
        self._trace = Trace(self._vm, last)
        return self._trace

    def stats(self) -> dict[str, Any]:
        """Everything that `--stats` writes."""
        return stats(self._vm)

    def _remember_values(self) -> None:
        """Keep what each device's registers are at the end, for views."""
        session, until = self._session, time.monotonic() + VALUES
        kept = self._last["peek"] = {}
        # in this process nothing would end the wait for a device that does not answer
        if session is None or not self.isolate:
            return
        for entry in self._entries():
            left = until - time.monotonic()
            if left <= 0:
                return
            with contextlib.suppress(VmlabError):  # a user's on_peek may raise
                reply: wire.Peeked = session.call(wire.Peek(entry.id), left)
                kept[entry.id] = reply.registers, reply.attributes

    def _remember(self) -> None:
        """Keep what was counted, past the end of the session."""
        self._last["irqs"], self._last["exit_count"] = self.irqs, self._exit_count
        traps = self.traps
        self._last["devices"], self._last["unmapped"] = dict(traps), traps.unmapped

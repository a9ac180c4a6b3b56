"""What is known of a machine without asking it: its directory and its counters, also past its end.

Counters are shared with the monitor: looking costs the guest nothing. The directory is asked for anew only
when a device came or went.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any, NamedTuple

from vmlab.arch.x86_64.text_mode import MEMORY, MEMORY_SIZE, Shape
from vmlab.core.counters import (
    BLOCKS,
    EXITS,
    UNMAPPED_READS,
    UNMAPPED_WRITES,
    Block,
    DeviceCounts,
)
from vmlab.errors import MonitorLost, StateError, VmlabError
from vmlab.machine.config import DeviceEntry
from vmlab.monitor import wire
from vmlab.monitor.local import COMMAND_TIMEOUT, Session
from vmlab.virtio.steps import DriverSteps

__all__ = ["Lamp", "Observation", "Values"]

#: seconds that the machine has, at its end, to tell its devices' register values
AT_THE_END = 0.5


class Lamp(NamedTuple):
    """An interrupt line. holders: ids of devices. delivered: None where the engine cannot tell."""

    line: int
    holders: list[str]
    raised: int
    delivered: int | None
    level: bool


class Values(NamedTuple):
    """What `peek` finds in a device: registers by name, and its public attributes."""

    registers: dict[str, Any]
    attributes: dict[str, Any]


class Observation:
    """The one reader of a machine's counter page and directory. After the machine's end, and before its
    beginning, it answers with what is known."""

    def __init__(self, cpus: int) -> None:
        self._cpus = cpus
        self._session: Session | None = None
        self._generation = -1
        #: the directory as it was told last
        self.known: list[DeviceEntry] = []
        #: of the devices at the end, by id
        self.last_values: dict[str, Values] = {}
        #: of the virtio devices at the end, by id
        self.last_checklists: dict[str, DriverSteps] = {}
        self._counts: dict[str, DeviceCounts] = {}
        self._unmapped = (0, 0)
        self._lamps: list[Lamp] = []
        self._exit_count = 0
        self._exits = wire.ExitCounts({}, [])
        self._screen: tuple[Shape, bytes] | None = None

    # --- from a machine's beginning to its end ------------------------------------------------------

    def begin(self, session: Session, directory: list[DeviceEntry]) -> None:
        self._session, self.known = session, directory
        self._generation = session.page.generation

    def remember_answers(self, timeout: float, values: bool, steps: bool) -> None:
        """Ask the machine for the last time. values: of registers too; steps: how far drivers are."""
        if self._session is None:
            return
        self._exits = self.exits(timeout)
        self.last_values, self.last_checklists = {}, {}
        until = time.monotonic() + AT_THE_END
        for entry in self.directory() if steps else ():
            left = until - time.monotonic()
            if entry.virtio and left > 0:
                with contextlib.suppress(VmlabError):
                    self.last_checklists[entry.id] = self.checklist(entry, None, left)
        for entry in self.directory() if values else ():
            left = until - time.monotonic()
            if left <= 0:
                return
            with contextlib.suppress(VmlabError):  # a user's on_peek may raise
                self.last_values[entry.id] = self.peek(entry.id, left)

    def end(self) -> None:
        """The page goes: keep what was counted."""
        with contextlib.suppress(VmlabError):  # of what cannot be had, the last is kept
            self._lamps, self._exit_count = self.lamps(), self.exit_count
            self._unmapped = self.unmapped
            self._counts = {entry.id: self.counts(entry) for entry in self.directory()}
            self._screen = self.screen()
        self._session = None

    # --- the directory ------------------------------------------------------------------------------

    @property
    def stale(self) -> bool:
        """Whether `known` is not the directory any more."""
        return self._session is not None and self._session.page.generation != self._generation

    def directory(self) -> list[DeviceEntry]:
        """The devices, by address; asked for where `known` is stale."""
        session = self._session
        if session is not None and self.stale:
            with contextlib.suppress(MonitorLost):
                reply = session.call(wire.Look())
                self._generation, self.known = reply.generation, reply.devices
        return self.known

    def is_plugged(self, entry: DeviceEntry) -> bool:
        """Whether that very device is still in its place."""
        return any(row.id == entry.id and row.block == entry.block for row in self.directory())

    # --- counters -----------------------------------------------------------------------------------

    def counts(self, entry: DeviceEntry) -> DeviceCounts:
        names = [row.name for row in entry.registers]
        session = self._session
        if session is None:
            return self._counts.get(entry.id) or Block.private(names).counts()
        if not self.is_plugged(entry):
            # its words in the page are another's by now
            return Block.private(names).counts()
        return session.page.attach(entry.block, names).counts()

    @property
    def unmapped(self) -> tuple[int, int]:
        """(reads, writes) that hit nothing."""
        if self._session is None:
            return self._unmapped
        words = self._session.page.words
        return words[UNMAPPED_READS], words[UNMAPPED_WRITES]

    def lamps(self) -> list[Lamp]:
        """The interrupt lines that a device holds, by number."""
        if self._session is None:
            return self._lamps
        holders: dict[int, list[str]] = {}
        for entry in self.directory():
            if entry.irq is not None:
                holders.setdefault(entry.irq, []).append(entry.id)
        page = self._session.page
        return [Lamp(line, ids, *page.line(line)) for line, ids in sorted(holders.items())]

    @property
    def exit_count(self) -> int:
        """How often vCPUs have left the guest."""
        if self._session is None:
            return self._exit_count
        return self._session.page.exits(self._cpus)

    def screen(self) -> tuple[Shape, bytes] | None:
        """What the text screen's registers say, and its cells; None where there is no screen. As the counters
        it is shared: looking costs the guest nothing."""
        session = self._session
        if session is None:
            return self._screen
        shape = Shape.unpacked(session.page.screen[0])
        if shape is None:
            return None
        return shape, shape.cells(session.memory.view(MEMORY, MEMORY_SIZE))

    def fingerprint(self) -> object:
        """Equal for two looks between which nothing was counted, nothing came and nothing went."""
        session = self._session
        if session is None:
            return None
        words = session.page.words
        ends = [entry.block + Block.span(len(entry.registers)) for entry in self.known]
        counts = bytes(words[:EXITS]), bytes(words[BLOCKS : max(ends, default=BLOCKS)])
        return (id(session), self.exit_count, *counts)

    # --- questions to the machine -------------------------------------------------------------------

    def exits(self, timeout: float = COMMAND_TIMEOUT) -> wire.ExitCounts:
        """By kind, and the addresses of accesses that hit nothing."""
        if self._session is None:
            return self._exits
        counts: wire.ExitCounts = self._session.call(wire.Exits(), timeout)
        return counts

    def checklist(
        self, entry: DeviceEntry, queue: int | None, timeout: float = COMMAND_TIMEOUT
    ) -> DriverSteps:
        """How far the driver of a device is. Of a machine that has ended: how far it was, with the last
        request of the queue that had it, whatever `queue`; StateError where it could not be asked."""
        if self._session is None:
            found = self.last_checklists.get(entry.id)
            if found is None:
                raise StateError(
                    f"the machine is not there, and {entry.id!r} was not in it at its end"
                )
            return found
        reply: wire.Checked = self._session.call(wire.Checklist(entry.id, queue), timeout)
        return reply.steps

    def peek(self, id: str, timeout: float = COMMAND_TIMEOUT) -> Values:
        """What the device shows; VmlabError where it cannot be had, MonitorLost after `timeout` seconds."""
        if self._session is None:
            raise MonitorLost("the machine is not there")
        reply: wire.Peeked = self._session.call(wire.Peek(id), timeout)
        return Values(reply.registers, reply.attributes)

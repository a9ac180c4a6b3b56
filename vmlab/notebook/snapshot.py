"""What every view of one VM shows, read from the shared counters: looking costs the guest nothing.

`Snapshots` are asked by the pump, and never ask the machine themselves: what needs an answer from the monitor
process (the directory after a device came or went, register values) is an errand on another thread.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vmlab.core.counters import DeviceCounts
from vmlab.core.units import show_size
from vmlab.errors import VmlabError
from vmlab.machine.config import ENDED, DeviceEntry
from vmlab.monitor.observation import Observation
from vmlab.notebook.meter import Meter, two_digits
from vmlab.notebook.sequencing import SerialExecutor
from vmlab.notebook.values import RegisterWatch

if TYPE_CHECKING:
    from vmlab.vm import VM

__all__ = ["Snapshot", "Snapshots", "entries", "snapshots_of"]

#: seconds between two looks at register values, each a question to the monitor process
PEEK_EVERY = 0.5
#: seconds that the monitor process has for one
PEEK_TIMEOUT = 2.0
#: seconds to wait before asking again what failed
RETRY = 2.0
#: a longer time between two looks says nothing of a rate
STALE = 1.0
#: entries of the device log that a page has, and characters of one
ENTRIES, ENTRY = 60, 1000


@dataclass
class Snapshot:
    """One look. The dictionaries are plain data, made anew when anything in them changes."""

    machine: dict[str, Any]
    clock: float = 0.0
    map: list[dict[str, Any]] = field(default_factory=list)
    devices: list[dict[str, Any]] = field(default_factory=list)
    irqs: list[dict[str, Any]] = field(default_factory=list)
    registers: dict[str, dict[str, Any]] = field(default_factory=dict)
    log: dict[str, Any] = field(default_factory=dict)


class Snapshots:
    """One for each VM that is shown; see `watch`. The VM's life does not hang on it."""

    def __init__(self, vm: VM, clock: Callable[[], float] = time.monotonic) -> None:
        self._vm = weakref.ref(vm)
        self._time = clock
        self._lock = threading.Lock()
        self._errands = SerialExecutor("vmlab-asks")
        self._asked = dict.fromkeys(("build", "look", "peek"), 0.0)
        self._before = 0.0
        self._mark: object = None
        self._meters: dict[str, Meter] = {}
        self._total, self._exits = Meter(), Meter()
        self._values = RegisterWatch()
        self._last = Snapshot({"state": "gone", "reason": ""})
        #: what a click selected, for every view of this VM
        self.selected: str | None = None
        #: devices whose registers are on screen
        self.opened: frozenset[str] = frozenset()
        self._openers: weakref.WeakKeyDictionary[object, frozenset[str]] = (
            weakref.WeakKeyDictionary()
        )

    def look(self) -> Snapshot:
        """What is to be seen now. Never waits for the machine, never raises for its end."""
        vm = self._vm()
        if vm is None:
            self._last.machine = {**self._last.machine, "state": "gone", "reason": GONE}
            return self._last
        now = self._time()
        if now - self._before > STALE:
            # nobody has looked for a while: the rates begin anew
            self._meters, self._total, self._exits = {}, Meter(), Meter()
            self._mark = None  # and the last look shows the old ones
        self._ask(vm, now)
        self._recall(vm)
        mark = (self._fingerprint(vm), self.opened, self._values.version)
        if mark == self._mark and all(one.quiet for one in self._all_meters()):
            self._last.clock = vm.uptime
        elif not _seen(vm).stale:
            self._last = self._make(vm, now)
            self._mark = mark
        else:
            # the directory is on its way: what the old one says of the page would be wrong
            self._last.machine = self._machine(vm)
        self._before = now
        return self._last

    def open(self, opener: object, ids: frozenset[str]) -> None:
        """`opener`, some view, has the registers of these devices on screen now."""
        with self._lock:
            self._openers[opener] = ids
            self.opened = frozenset().union(*self._openers.values())

    def _fingerprint(self, vm: VM) -> object:
        """Equal for two looks between which nothing happened."""
        state = vm.state
        return state, state.reason, state.busy, vm.log.total, _seen(vm).fingerprint()

    # --- questions to the monitor process ---------------------------------------------------------

    def _ask(self, vm: VM, now: float) -> None:
        if self._errands.busy:
            return
        if _is_unbuilt(vm):
            self._put("build", now, RETRY, _build)
        elif _seen(vm).stale:
            self._put("look", now, 0, lambda machine: _seen(machine).directory())
        elif vm.pid is not None and self.opened:
            self._put("peek", now, PEEK_EVERY, self._peek)

    def _put(self, kind: str, now: float, pause: float, errand: Callable[[VM], object]) -> None:
        if self._asked[kind] + pause > now:
            return
        self._asked[kind] = now
        found = self._vm

        def run() -> None:
            vm = found()
            if vm is not None:
                errand(vm)

        self._errands.put(run)

    def _peek(self, vm: VM) -> None:
        entries = {entry.id: entry for entry in _seen(vm).known}
        for id in sorted(self.opened):
            if vm.pid is None:
                return
            try:
                self._values.keep(id, *_seen(vm).peek(id, PEEK_TIMEOUT))
                if id in entries and entries[id].virtio:
                    found = _seen(vm).checklist(entries[id], None, PEEK_TIMEOUT)
                    self._values.keep_checklist(id, found)
            except VmlabError as error:
                self._values.fail(id, str(error))

    def _recall(self, vm: VM) -> None:
        """A machine that has ended cannot be asked: what it has left behind."""
        if vm.pid is None:
            for id, values in _seen(vm).last_values.items():
                if id in self.opened:
                    self._values.keep(id, *values)
            for id, steps in _seen(vm).last_checklists.items():
                if id in self.opened:
                    self._values.keep_checklist(id, steps)

    def _all_meters(self) -> list[Meter]:
        return [self._total, self._exits, *self._meters.values()]

    # --- the parts --------------------------------------------------------------------------------

    def _make(self, vm: VM, now: float) -> Snapshot:
        traps = None if _seen(vm).stale else vm.traps
        directory = list(_seen(vm).known)
        counts = {one.id: traps[one.id] for one in directory if traps and one.id in traps}
        for gone in self._meters.keys() - counts.keys():
            del self._meters[gone]
        for id, one in counts.items():
            meter = self._meters.setdefault(id, Meter())
            meter.take(now, one.traps + one.kicks, self._before)
        unmapped = traps.unmapped if traps else (0, 0)
        self._total.take(
            now, sum(one.traps for one in counts.values()) + sum(unmapped), self._before
        )
        self._exits.take(now, _seen(vm).exit_count, self._before)
        over = vm.state in ENDED
        for each in self._all_meters() if over else ():
            each.halt()
        alive = not over
        shown = [one for one in directory if one.id in counts]
        self._values.count(counts, vm.uptime)
        return Snapshot(
            {**self._machine(vm), "unmapped": list(unmapped)},
            vm.uptime,
            self._map(vm),
            [self._device(one, counts[one.id], alive) for one in shown],
            [
                {"line": row.line, "device": row.device, "raised": row.raised}
                # a machine without power holds no line up
                | {"delivered": row.delivered, "level": row.level and alive}
                for row in vm.irqs
            ],
            {
                one.id: self._values.shown(one, counts[one.id])
                for one in shown
                if one.id in self.opened
            },
            entries(vm),
        )

    def _machine(self, vm: VM) -> dict[str, Any]:
        state = vm.state
        alive = state in ("running", "paused")
        return {
            "name": vm.name,
            "kernel": vm.config.name,
            "state": str(state),
            "reason": state.reason,
            "fault": state.fault.device if state.fault is not None else "",
            "traceback": state.traceback,
            "busy": state.busy,
            "engine": vm.engine,
            "why": vm.engine_reason,
            "memory": show_size(vm.config.memory),
            "cpus": vm.config.cpus,
            # what has ended has no rate, whatever the last second was
            "rate": self._total.rate if alive else 0,
            "exits": self._exits.rate if alive else 0,
            "unmapped": self._last.machine.get("unmapped", [0, 0]),
        }

    def _map(self, vm: VM) -> list[dict[str, Any]]:
        if _is_unbuilt(vm):
            return []  # asking for it would build the machine here
        return [
            {"start": one.start, "end": one.end, "kind": one.kind, "name": one.name}
            for one in vm.address_map
        ]

    def _device(self, entry: DeviceEntry, counts: DeviceCounts, alive: bool) -> dict[str, Any]:
        meter = self._meters[entry.id]
        return {
            "id": entry.id,
            "type": entry.type,
            "space": entry.space,
            "base": entry.base,
            "size": entry.size,
            "irq": entry.irq,
            "fixed": entry.fixed,
            "state": counts.progress,
            "reads": counts.reads,
            "writes": counts.writes,
            "bytes": counts.bytes,
            "kicks": counts.kicks,
            "mistakes": counts.mistakes,
            "rate": meter.rate if alive else 0,
            "bars": [two_digits(one) for one in meter.bars],
        }


GONE = "the VM object is gone: nothing holds it any more"


def entries(vm: VM) -> dict[str, Any]:
    """The newest of the device log, each numbered, as plain data."""
    total, kept = vm.log.total, vm.log[-ENTRIES:]
    return {
        "total": total,
        "entries": [
            {
                "number": number,
                "time": one.time,
                "device": one.device,
                "kind": one.kind,
                "text": one.text[:ENTRY],
            }
            for number, one in enumerate(kept, total - len(kept))
        ],
    }


def _build(vm: VM) -> None:
    """So that a machine's map can be seen before it is started; what fails is said by `start`."""
    try:
        vm.connection.up()
    except VmlabError:
        pass


def _seen(vm: VM) -> Observation:
    return vm.connection.observation


def _is_unbuilt(vm: VM) -> bool:
    return vm.pid is None and vm.state == "created"


_watches: weakref.WeakKeyDictionary[VM, Snapshots] = weakref.WeakKeyDictionary()


def snapshots_of(vm: VM) -> Snapshots:
    """The VM's watch, the same for every view of it."""
    found = _watches.get(vm)
    if found is None:
        found = _watches.setdefault(vm, Snapshots(vm))
    return found

"""`monitor` commands: what gdb does not know of a machine, as text."""

from __future__ import annotations

from collections.abc import Callable

from vmlab.core.trace import ACCESSES, TraceFilter, TraceRecord
from vmlab.errors import ConfigError, VmlabError
from vmlab.hints import unknown
from vmlab.machine.machine import Machine

__all__ = ["Commands"]

#: accesses that `monitor trace` shows, and keeps
_SHOWN, _KEPT = 40, 10_000


class Commands:
    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._known: dict[str, tuple[Callable[[str], str], str]] = {
            "help": (self._help, "this list"),
            "devices": (self._devices, "what is plugged in, and where"),
            "irqs": (self._irqs, "the interrupt lines: how often each was raised, and its level"),
            "traps": (self._traps, "accesses by device"),
            "trace": (self._trace, "on, off, or the newest accesses"),
            "hot-add": (self._hot_add, "NAME[,option=value...]: plug in a device"),
            "breakpoints": (self._breakpoints, "all of them, those of a notebook too"),
        }

    def run(self, line: str) -> str:
        """What the command says; what is wrong with it, in words. Never raises for a mistake."""
        name, _, rest = line.strip().partition(" ")
        try:
            if name not in self._known:
                raise ConfigError(unknown("command", name, self._known))
            return self._known[name][0](rest.strip()) + "\n"
        except VmlabError as error:
            return f"{error}\n"

    def _help(self, _rest: str) -> str:
        return "\n".join(f"monitor {name:<12} {doc}" for name, (_, doc) in self._known.items())

    def _devices(self, _rest: str) -> str:
        rows = []
        for one in self._machine.device_manager.introspection.directory():
            line = f"irq {one.irq}" if one.irq is not None else ""
            end = one.base + one.size - 1
            rows.append(f"{one.id:<12} {one.type:<14} {one.space:<4} {one.base:#x}-{end:#x} {line}")
        return "\n".join(row.rstrip() for row in rows)

    def _irqs(self, _rest: str) -> str:
        rows = []
        for id, one in self._machine.device_manager.devices.items():
            if one.irq is not None:
                line = one.device.irq
                level = "high" if line.level else "low"
                rows.append(f"{one.irq:>4} {id:<12} raised {line.raised:,}, {level}")
        return "\n".join(sorted(rows)) or "no device has a line"

    def _traps(self, _rest: str) -> str:
        rows = []
        for id, one in self._machine.device_manager.devices.items():
            counts = one.device.counters.counts()
            rows.append(f"{id:<12} {counts.reads:>10,} reads {counts.writes:>10,} writes")
        return "\n".join(rows)

    def _trace(self, rest: str) -> str:
        if rest in ("on", "off"):
            self._machine.trace(rest == "on", _KEPT, TraceFilter(kinds=frozenset(ACCESSES)))
            return f"the access log is {rest}"
        if rest:
            raise ConfigError(f"trace {rest!r}: on, off or nothing")
        events, dropped = self._machine.take_trace()
        lines = [_told(one) for one in events[-_SHOWN:]]
        left = len(events) - len(lines) + dropped
        if left:
            lines.insert(0, f"({left:,} before these)")
        return "\n".join(lines) or "nothing since the last look; monitor trace on begins a log"

    def _hot_add(self, rest: str) -> str:
        from vmlab.catalogue import make

        device, id = make(rest)
        return f"{self._machine.hot_add(device, id)} is plugged in"

    def _breakpoints(self, _rest: str) -> str:
        rows = []
        for one in self._machine.breakpoints.entries:
            owner = f" ({one.spec.owner}'s)" if one.spec.owner else ""
            off = "" if one.enabled else ", disabled"
            hits = f"{one.hits} hit{'s' * (one.hits != 1)}"
            rows.append(
                f"{one.number}: {one.spec.kind} {one.spec.label}, {one.how}, {hits}{off}{owner}"
            )
        return "\n".join(rows) or "none"


def _told(event: TraceRecord) -> str:
    return f"{event.time:.6f} cpu{event.cpu} {event.told()}"

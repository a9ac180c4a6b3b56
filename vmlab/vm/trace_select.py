"""Some of the events of a log."""

from __future__ import annotations

from vmlab.core.trace import TraceFilter, expanded, known_kinds
from vmlab.errors import ConfigError, UnknownName
from vmlab.hints import unknown
from vmlab.vm.trace_event import TraceEvent

__all__ = ["selected"]


def selected(events: list[TraceEvent], wanted: TraceFilter, last: int | None) -> list[TraceEvent]:
    """The newest `last` of those that are wanted. UnknownName for a device, register, CPU or kind that there
    is not; an empty log has none to be known by."""
    if last is not None and last < 1:
        raise ConfigError(f"last={last}: a number from 1 on")
    kinds = None if wanted.kinds is None else expanded(wanted.kinds)
    for kind in sorted(kinds or ()):
        if kind not in known_kinds():
            raise UnknownName(unknown("kind of event", kind, known_kinds()))
    if events:
        _check("device", wanted.devices, {event.device for event in events})
        registers = {event.register for event in events}
        registers |= {part for name in registers for part in name.split("+")}
        _check("register", wanted.registers, registers)
        numbers = {str(event.cpu) for event in events if event.cpu is not None}
        _check("CPU", {str(cpu) for cpu in wanted.cpus or ()}, numbers)
    wants = TraceFilter(wanted.devices, kinds, wanted.registers, wanted.cpus).wants
    found = [one for one in events if wants(one.kind, one.device, one.register, one.cpu)]
    return found if last is None else found[-last:]


def _check(what: str, named: frozenset[str] | set[str] | None, known: set[str]) -> None:
    for name in sorted(named or ()):
        if name not in known:
            raise UnknownName(unknown(what, name, sorted(filter(None, known))) + " in this log")

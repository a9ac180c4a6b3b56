"""Breakpoints as people hold them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from msgspec.structs import replace

from vmlab.arch import machine
from vmlab.errors import ConfigError, ExpectTimeout, MonitorLost, StateError, UnknownName
from vmlab.hints import unknown
from vmlab.machine.config import ENDED
from vmlab.machine.debug.records import BreakEntry, BreakEvent, BreakSpec
from vmlab.monitor import wire
from vmlab.vm.backtrace import Names
from vmlab.vm.conditions import Condition
from vmlab.vm.connection import Connection

__all__ = ["Breakpoint", "Breakpoints", "Stopped"]

#: seconds after which a wait wakes up for a look
_WAIT = 0.5
_TOP = 1 << 64


class Breakpoint:
    """Where the guest stops. number: as events and messages call it; kind: "code", "register", "io", "memory"
    or "irq"; label: how it was named; `how`: what does it, "hardware", "int3", "single-stepping", "software",
    "bus" or "line"."""

    def __init__(self, connection: Connection, entry: BreakEntry) -> None:
        self._connection = connection
        self._entry = entry
        self.number = entry.number
        self.kind = entry.spec.kind
        self.label = entry.spec.label
        self.how = entry.how

    def _now(self) -> BreakEntry | None:
        """None: it is gone. What a machine that is gone has said last stays."""
        try:
            entries = self._connection.call(wire.ListBreaks(), fault=False).entries
        except (MonitorLost, StateError):
            return self._entry
        for one in entries:
            if one.number == self.number:
                self._entry = one
                return self._entry
        return None

    @property
    def hits(self) -> int:
        """How often it was met with its `value` and `when` true, whether that stopped the guest or not."""
        self._now()
        return self._entry.hits

    @property
    def enabled(self) -> bool:
        """Assign False to keep it for later."""
        found = self._now()
        return found is not None and found.enabled

    @enabled.setter
    def enabled(self, on: bool) -> None:
        self._connection.call(wire.ChangeBreak(self.number, bool(on)))

    def delete(self) -> None:
        """Take it away; nothing happens when it is gone."""
        if self._now() is not None:
            self._connection.call(wire.ChangeBreak(self.number, None), fault=False)
        self._connection.conditions.forget(self.number)

    def __repr__(self) -> str:
        found = self._now()
        state = "gone" if found is None else "" if found.enabled else "disabled"
        tail = f", {state}" if state else ""
        return (
            f"<breakpoint {self.number}: {self.kind} {self.label}, {self.how},"
            f" {self._entry.hits} hit{'s' * (self._entry.hits != 1)}{tail}>"
        )


class Stopped:
    """The guest stands at a breakpoint. event: what was met; cpu: the number of the CPU."""

    def __init__(self, connection: Connection, event: BreakEvent, names: Names) -> None:
        self.event, self.cpu = event, event.cpu
        self._connection, self._names = connection, names

    @property
    def function(self) -> str:
        """ "tick+0x1e", where the instruction is that has met it; "" where no symbol says."""
        return self._names.function(self.event.pc or None)

    @property
    def source(self) -> str:
        """ "irqlab.c:42"; "" where no line is known."""
        return self._names.source(self.event.pc or None)

    @property
    def breakpoint(self) -> Breakpoint:
        for one in Breakpoints(self._connection):
            if one.number == self.event.breakpoint:
                return one
        raise UnknownName(f"breakpoint {self.event.breakpoint} has been deleted")

    def __repr__(self) -> str:
        function = "" if self.event.kind == "code" else self.function  # its label says where
        return f"<{self.event.text}{function and f', in {function}'}>"


class Breakpoints:
    """All there are, gdb's as well, as a sequence; `breakpoints.clear()` deletes them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def _entries(self) -> list[BreakEntry]:
        return self._connection.call(wire.ListBreaks(), fault=False).entries  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[Breakpoint]:
        return iter([Breakpoint(self._connection, one) for one in self._entries()])

    def __len__(self) -> int:
        return len(self._entries())

    def __getitem__(self, number: int) -> Breakpoint:
        """By its number."""
        for one in self:
            if one.number == number:
                return one
        raise UnknownName(unknown("breakpoint", number, [str(one.number) for one in self]))

    def clear(self) -> None:
        for one in self:
            one.delete()

    def __repr__(self) -> str:
        return "\n".join(map(repr, self)) or "<no breakpoints>"

    # -- making them ---------------------------------------------------------------------------------

    def add(self, spec: BreakSpec, when: Condition | None) -> Breakpoint:
        if when is not None and not callable(when):
            raise ConfigError(f"when={when!r:.60}: it is a function of the event")
        _whole("count", spec.count, 1, 1 << 40)
        if not (spec.read or spec.write):
            raise ConfigError("neither read nor write: nothing would ever be met")
        if spec.value is not None:
            _whole("value", spec.value, 0, _TOP)
            if not spec.write:
                raise ConfigError("value= is what is written; of a read there is none yet")
        conditions = self._connection.conditions
        if when is None:
            entry = self._connection.call(wire.AddBreak(spec)).entries[0]
            return Breakpoint(self._connection, entry)
        conditions.expect(when)
        try:
            entry = self._connection.call(wire.AddBreak(replace(spec, asks=True))).entries[0]
        except BaseException:
            conditions.give_up(when)
            raise
        conditions.keep(entry.number, when)
        return Breakpoint(self._connection, entry)

    def access(
        self,
        place: object,
        size: int,
        read: bool,
        write: bool,
        value: int | None,
        when: Condition | None,
        count: int,
        once: bool,
    ) -> Breakpoint:
        """Of a device's register by its name, or of I/O space."""
        common: dict[str, Any] = {
            "read": bool(read),
            "write": bool(write),
            "value": value,
            "count": count,
            "once": bool(once),
        }
        if isinstance(place, str):
            device, dot, register = place.partition(".")
            entries = {one.id: one for one in self._connection.entries_or_build()}
            if device not in entries:
                raise UnknownName(unknown("device", device, entries))
            names = [one.name for one in entries[device].registers]
            if dot and register not in names:
                raise UnknownName(f"{device!r} has {unknown('register', register, names)}")
            return self.add(
                BreakSpec("register", device=device, register=register, label=place, **common), when
            )
        if isinstance(place, range):
            if place.step != 1 or not len(place):
                raise ConfigError(f"{place!r}: a range of addresses has step 1 and is not empty")
            start, size = place.start, len(place)
        else:
            start, size = _whole("address", place, 0, _TOP), _whole("size", size, 1, _TOP)
        space = self._space(start, size)
        end = f"-{start + size - 1:#x}" if size > 1 else ""
        label = f"{space} {start:#x}{end}"
        return self.add(BreakSpec("io", start, size, space, label=label, **common), when)

    def _space(self, start: int, size: int) -> str:
        """A port below 64 Ki where there are ports; memory-mapped I/O above. RAM is neither."""
        config = self._connection.config
        arch = machine(config.arch)
        if start + size <= 1 << (arch.port_bits or 0):
            return "port"
        for base, length in arch.ram_layout(config.memory):
            if start < base + length and base < start + size:
                raise ConfigError(
                    f"{start:#x} is RAM, which reaches no bus; break_on_memory({start:#x}, {size}) watches it"
                )
        return "mmio"


def _whole(what: str, value: object, low: int, end: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value < end:
        raise ConfigError(f"{what}={value!r:.60}: a whole number from {low} to {end - 1:#x} fits")
    return value


def wait_for_break(connection: Connection, names: Names, timeout: float | None) -> Stopped:
    """Until the machine stands at a breakpoint. ExpectTimeout after `timeout` seconds; StateError when it
    ends, or is paused for another reason."""
    end = time.monotonic() + timeout if timeout is not None else float("inf")

    def settled() -> bool:
        return connection.state != "running"

    with connection.changed:
        while not connection.changed.wait_for(
            settled, max(0.0, min(end - time.monotonic(), _WAIT))
        ):
            if time.monotonic() >= end:
                break
    state = connection.state
    if state.met is not None:
        return Stopped(connection, state.met, names)
    if state.fault is not None:
        raise connection.fault_error(state.fault)
    if state == "running":
        raise ExpectTimeout(f"no breakpoint was met within {timeout:g} s: the guest runs on")
    why = f" ({state.reason})" if state.reason else ""
    hint = "; resume() it" if state == "paused" else "; start() it" if state not in ENDED else ""
    raise StateError(f"the machine is {state}{why} and meets no breakpoint{hint}")


def code_spec(address: object, find: Callable[[str], int], count: int, once: bool) -> BreakSpec:
    """find: a symbol's address."""
    label = address if isinstance(address, str) else None
    at = find(address) if isinstance(address, str) else _whole("address", address, 0, _TOP)
    label = f"{label} ({at:#x})" if label else f"{at:#x}"
    return BreakSpec("code", at, count=count, once=bool(once), label=label)


def memory_spec(
    address: object,
    size: int,
    find: Callable[[str], int],
    read: bool,
    write: bool,
    value: int | None,
    count: int,
    once: bool,
) -> BreakSpec:
    at = find(address) if isinstance(address, str) else _whole("address", address, 0, _TOP)
    _whole("size", size, 1, 1 << 30)
    name = f"{address} ({at:#x})" if isinstance(address, str) else f"{at:#x}"
    return BreakSpec(
        "memory",
        at,
        size,
        read=bool(read),
        write=bool(write),
        value=value,
        count=count,
        once=bool(once),
        label=f"{size} byte{'s' * (size != 1)} at {name}",
    )


def irq_spec(line: object, count: int, once: bool) -> BreakSpec:
    number = _whole("line", line, 0, 1 << 20)
    return BreakSpec(
        "irq", line=number, count=count, once=bool(once), label=f"interrupt line {number} rises"
    )

"""Breakpoints and watchpoints as gdb sets them, on the machine's own.

gdb takes all of them away at each stop and sets them again before the guest goes on: what it takes away stays
until then (`settle`), so that nothing changes when it comes back.
"""

from __future__ import annotations

from vmlab.errors import EngineError
from vmlab.machine.debug.records import BreakEvent, BreakSpec
from vmlab.machine.machine import Machine

__all__ = ["GdbPoints"]

#: Z packets: software and hardware breakpoint, watchpoint for writes, reads, both
_SOFTWARE, _HARDWARE, _WRITE, _READ, _ACCESS = range(5)
_WORDS = {_WRITE: "watch", _READ: "rwatch", _ACCESS: "awatch"}
_Key = tuple[int, int, int]


class GdbPoints:
    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        #: (kind, address, size) -> the machine's number of it
        self._numbers: dict[_Key, int] = {}
        self._leaving: set[_Key] = set()

    def add(self, kind: int, address: int, size: int, cpu: int) -> None:
        key = kind, address, size
        self._leaving.discard(key)
        if key not in self._numbers:
            made = self._machine.breakpoints.add(self._spec(kind, address, size, cpu))
            self._numbers[key] = made.number

    def remove(self, kind: int, address: int, size: int) -> None:
        key = kind, address, size
        if key in self._numbers:
            self._leaving.add(key)

    def settle(self) -> None:
        """The guest goes on: what was taken away and not set again goes."""
        for key in self._leaving:
            self._machine.breakpoints.discard(self._numbers.pop(key))
        self._leaving.clear()

    def clear(self) -> None:
        self._numbers.clear()
        self._leaving.clear()
        self._machine.breakpoints.remove_owned("gdb")

    def _spec(self, kind: int, address: int, size: int, cpu: int) -> BreakSpec:
        if kind in (_SOFTWARE, _HARDWARE):
            return BreakSpec("code", address, label=f"{address:#x}", owner="gdb")
        read, write = kind != _WRITE, kind != _READ
        at = self._machine.engine.translate(address, cpu)
        if at is None:
            raise EngineError(f"{address:#x} is mapped nowhere now")
        if self._machine.memory.find(at, max(size, 1)) is not None:
            return BreakSpec(
                *("memory", address, max(size, 1)),
                read=read,
                write=write,
                label=f"{size} bytes at {address:#x}",
                owner="gdb",
            )
        # not RAM: a device's window, or a hole; the bus sees each access to it
        found = self._machine.mmio.find(at)
        name = found.name if found is not None else "unmapped"
        return BreakSpec(
            *("io", at, max(size, 1), "mmio"),
            read=read,
            write=write,
            label=f"{name} at {at:#x}",
            owner="gdb",
        )

    def reason(self, met: BreakEvent, knows_breaks: bool) -> str:
        """What a stop reply says of it (GDB manual, E.3)."""
        for (kind, address, _), number in self._numbers.items():
            if number != met.breakpoint:
                continue
            if kind in _WORDS:
                return f"{_WORDS[kind]}:{address:x};"
            if knows_breaks:
                return "swbreak:;" if kind == _SOFTWARE else "hwbreak:;"
        return ""

    def unpatched(self, address: int, data: bytes) -> bytes:
        """Memory without what an engine has put there."""
        return self._machine.engine.unpatched(address, data)

    def peek(self, address: int, size: int, cpu: int) -> bytes:
        """Of a device's window: its registers, without any side effect; empty where they are not known."""
        at = self._machine.engine.translate(address, cpu)
        found = self._machine.mmio.find(at) if at is not None else None
        if at is None or found is None or found.name not in self._machine.device_manager.devices:
            return b""
        start = at - found.start + found.offset
        data, known = bytearray(size), False
        values, _ = self._machine.device_manager.introspection.peek(found.name)
        for row in self._machine.device_manager.devices[found.name].device.regs.table:
            value = values.get(row.name)
            if not isinstance(value, int):
                continue
            for n, byte in enumerate(value.to_bytes(row.size, "little")):
                if 0 <= row.offset + n - start < size:
                    data[row.offset + n - start], known = byte, True
        return bytes(data) if known else b""

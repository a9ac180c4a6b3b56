"""Guest memory as a CPU's code sees it. The machine is paused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from vmlab.core.memory import GuestMemory
from vmlab.engine.api import Engine

__all__ = ["pieces", "read", "write"]

_PAGE = 0x1000


class _Machine(Protocol):
    @property
    def engine(self) -> Engine: ...
    @property
    def memory(self) -> GuestMemory: ...


def pieces(machine: _Machine, address: int, size: int, cpu: int) -> Iterator[tuple[int, int]]:
    """(physical address, size) of the parts, page by page, up to where nothing is mapped."""
    while size > 0:
        part = min(size, _PAGE - address % _PAGE)
        at = machine.engine.translate(address, cpu)
        if at is None:
            return
        yield at, part
        address, size = address + part & (1 << 64) - 1, size - part


def read(machine: _Machine, address: int, size: int, cpu: int) -> bytes:
    """Up to where there is no RAM."""
    data = bytearray()
    for at, part in pieces(machine, address, size, cpu):
        if machine.memory.find(at, part) is None:
            break
        data += machine.memory.read(at, part)
    return bytes(data)


def write(machine: _Machine, address: int, data: bytes, cpu: int) -> bool:
    """False, and nothing is written, where not all of it is RAM."""
    parts = list(pieces(machine, address, len(data), cpu))
    if sum(size for _, size in parts) != len(data):
        return False
    if any(machine.memory.find(at, size) is None for at, size in parts):
        return False
    for at, size in parts:
        machine.memory.write(at, data[:size])
        data = data[size:]
    return True

"""The Supervisor Binary Interface 2.0: what a kernel in S mode asks of its machine by ECALL.

The legacy extensions, BASE, TIME, IPI, RFENCE, HSM, SRST and DBCN. Fences are done: all harts run on one
instance, whose TLB is flushed at each change of the hart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, Protocol

__all__ = ["Machine", "call"]

SUCCESS, FAILED, NOT_SUPPORTED, INVALID_PARAM, INVALID_ADDRESS = 0, -1, -2, -3, -5
ALREADY_AVAILABLE = -6
BASE, TIME, IPI, RFENCE = 0x10, 0x5449_4D45, 0x73_5049, 0x5246_4E43
HSM, SRST, DBCN = 0x48_534D, 0x5352_5354, 0x4442_434E
#: SBI 2.0, and who implements it: a number that nobody has
_VERSION, _IMPLEMENTATION, _OWN_VERSION = 2 << 24, 0x564D, 1
#: bytes of one DBCN call
_MOST = 1 << 16
#: states of a hart (HSM)
_STARTED, _STOPPED = 0, 1


class Result(NamedTuple):
    error: int
    value: int = 0


class Machine(Protocol):
    """What the calls act on."""

    @property
    def bits(self) -> int: ...
    @property
    def harts(self) -> int: ...

    def set_timer(self, value: int) -> None: ...
    def send(self, harts: Iterable[int]) -> None: ...
    def forget_sent(self) -> None:
        """The calling hart's supervisor software interrupt is not pending any more."""
        ...

    def put(self, data: bytes) -> None:
        """To the serial port."""
        ...

    def get(self) -> int:
        """A byte from the serial port; -1: there is none."""
        ...

    def memory(self, address: int, size: int) -> memoryview | None:
        """RAM there; None: not all of it is."""
        ...

    def is_started(self, hart: int) -> bool: ...
    def start_hart(self, hart: int, address: int, opaque: int) -> None: ...
    def turn_off(self) -> None:
        """The calling hart stops."""
        ...

    def suspend(self) -> None:
        """The calling hart waits for an interrupt."""
        ...

    def system(self, event: str) -> None:
        """ "power-off" or "reset"."""
        ...


def call(machine: Machine, extension: int, function: int, a: list[int]) -> tuple[int, int | None]:
    """(a0, a1) of the answer; a1 None: it stays as it is. a: a0 to a5."""
    legacy = _LEGACY.get(extension)
    if legacy is not None:
        return legacy(machine, a), None
    handler = _EXTENSIONS.get(extension)
    return handler(machine, function, a) if handler else Result(NOT_SUPPORTED)


def _harts(machine: Machine, mask: int, base: int) -> list[int] | None:
    """Of a hart mask (SBI 2.0 §3.1); None: it names one that is not there."""
    if base == (1 << machine.bits) - 1:
        return list(range(machine.harts))
    named = [base + n for n in range(machine.bits) if mask >> n & 1]
    return named if all(n < machine.harts for n in named) else None


def _wide(machine: Machine, a: list[int]) -> int:
    """A 64-bit argument in a0, and on 32-bit harts a1."""
    return a[0] | a[1] << 32 if machine.bits == 32 else a[0]


# --- legacy (chapter 5): the answer is a0 ---------------------------------------------------------


def _legacy_set_timer(machine: Machine, a: list[int]) -> int:
    machine.set_timer(_wide(machine, a))
    return SUCCESS


def _legacy_put(machine: Machine, a: list[int]) -> int:
    machine.put(bytes((a[0] & 0xFF,)))
    return SUCCESS


def _legacy_clear(machine: Machine, _a: list[int]) -> int:
    machine.forget_sent()
    return SUCCESS


def _legacy_send(machine: Machine, a: list[int]) -> int:
    """The mask lies in memory, at a virtual address: all harts but for 0."""
    machine.send(range(machine.harts))
    return SUCCESS


def _legacy_shutdown(machine: Machine, _a: list[int]) -> int:
    machine.system("power-off")
    return SUCCESS


_LEGACY: Final[dict[int, Callable[[Machine, list[int]], int]]] = {
    0: _legacy_set_timer,
    1: _legacy_put,
    2: lambda machine, _a: machine.get(),
    3: _legacy_clear,
    4: _legacy_send,
    **dict.fromkeys((5, 6, 7), lambda _machine, _a: SUCCESS),
    8: _legacy_shutdown,
}


# --- extensions -----------------------------------------------------------------------------------


def _base(_machine: Machine, function: int, a: list[int]) -> Result:
    facts = {0: _VERSION, 1: _IMPLEMENTATION, 2: _OWN_VERSION, 4: 0, 5: 0, 6: 0}
    if function == 3:
        return Result(SUCCESS, int(a[0] in _EXTENSIONS or a[0] in _LEGACY))
    return Result(SUCCESS, facts[function]) if function in facts else Result(NOT_SUPPORTED)


def _time(machine: Machine, function: int, a: list[int]) -> Result:
    if function:
        return Result(NOT_SUPPORTED)
    machine.set_timer(_wide(machine, a))
    return Result(SUCCESS)


def _ipi(machine: Machine, function: int, a: list[int]) -> Result:
    if function:
        return Result(NOT_SUPPORTED)
    named = _harts(machine, a[0], a[1])
    if named is None:
        return Result(INVALID_PARAM)
    machine.send(named)
    return Result(SUCCESS)


def _rfence(machine: Machine, function: int, a: list[int]) -> Result:
    """FENCE.I, SFENCE.VMA with and without an ASID; those of the hypervisor are not there."""
    if function > 2:
        return Result(NOT_SUPPORTED)
    return Result(SUCCESS if _harts(machine, a[0], a[1]) is not None else INVALID_PARAM)


def _hsm(machine: Machine, function: int, a: list[int]) -> Result:
    hart = a[0]
    if function == 1:
        machine.turn_off()
        return Result(SUCCESS)
    if function == 3:
        if a[0]:  # a state that loses registers
            return Result(NOT_SUPPORTED)
        machine.suspend()
        return Result(SUCCESS)
    if function > 3:
        return Result(NOT_SUPPORTED)
    if hart >= machine.harts:
        return Result(INVALID_PARAM)
    started = machine.is_started(hart)
    if function == 2:
        return Result(SUCCESS, _STARTED if started else _STOPPED)
    if started:
        return Result(ALREADY_AVAILABLE)
    if machine.memory(a[1], 2) is None:
        return Result(INVALID_ADDRESS)
    machine.start_hart(hart, a[1], a[2])
    return Result(SUCCESS)


def _srst(machine: Machine, function: int, a: list[int]) -> Result:
    """Shutdown, cold and warm reboot."""
    if function:
        return Result(NOT_SUPPORTED)
    if a[0] & 0xFFFF_FFFF > 2:
        return Result(INVALID_PARAM)
    machine.system("reset" if a[0] & 0xFFFF_FFFF else "power-off")
    return Result(SUCCESS)


def _dbcn(machine: Machine, function: int, a: list[int]) -> Result:
    if function == 2:
        machine.put(bytes((a[0] & 0xFF,)))
        return Result(SUCCESS)
    if function > 2:
        return Result(NOT_SUPPORTED)
    size = min(a[0], _MOST)
    view = machine.memory(a[1] | a[2] << 32 if machine.bits == 32 else a[1], size)
    if view is None:
        return Result(INVALID_PARAM)
    if not function:
        machine.put(bytes(view))
        return Result(SUCCESS, size)
    for at in range(size):
        byte = machine.get()
        if byte < 0:
            return Result(SUCCESS, at)
        view[at] = byte
    return Result(SUCCESS, size)


_EXTENSIONS: Final[dict[int, Callable[[Machine, int, list[int]], Result]]] = {
    BASE: _base,
    TIME: _time,
    IPI: _ipi,
    RFENCE: _rfence,
    HSM: _hsm,
    SRST: _srst,
    DBCN: _dbcn,
}

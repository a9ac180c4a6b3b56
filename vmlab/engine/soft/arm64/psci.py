"""The Power State Coordination Interface 1.1: what an arm64 guest asks of its machine by HVC (ARM DEN 0022D).

And of the SMC Calling Convention (ARM DEN 0028) its version.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["Power", "call"]

_64 = 1 << 30
VERSION, CPU_SUSPEND, CPU_OFF, CPU_ON = 0x8400_0000, 0x8400_0001, 0x8400_0002, 0x8400_0003
AFFINITY_INFO, MIGRATE_INFO_TYPE = 0x8400_0004, 0x8400_0006
SYSTEM_OFF, SYSTEM_RESET, FEATURES = 0x8400_0008, 0x8400_0009, 0x8400_000A
SMCCC_VERSION = 0x8000_0000
NOT_SUPPORTED, INVALID_PARAMETERS, ALREADY_ON = -1, -2, -4
#: functions that have a variant with 64-bit arguments
_WIDE = (CPU_SUSPEND, CPU_ON, AFFINITY_INFO)
#: MIGRATE_INFO_TYPE: no Trusted OS that would have to move
_NOTHING_TO_MIGRATE = 2


class Power(Protocol):
    """What the calls act on."""

    def is_on(self, affinity: int) -> bool | None:
        """None: no CPU has this affinity."""
        ...

    def turn_on(self, affinity: int, entry: int, context: int) -> None: ...

    def turn_off(self) -> None:
        """The calling CPU."""
        ...

    def wait(self) -> None:
        """The calling CPU, until an interrupt waits for it, as by WFI."""
        ...

    def system(self, event: str) -> None:
        """ "off" or "reset"."""
        ...


def call(power: Power, function: int, arguments: tuple[int, int, int]) -> int:
    """The result for x0. function: W0. What is not known is answered with NOT_SUPPORTED."""
    handler = _HANDLERS.get(_plain(function))
    return NOT_SUPPORTED if handler is None else handler(power, arguments)


def _plain(function: int) -> int:
    """The 32-bit variant's number."""
    return function & ~_64 if function & ~_64 in _WIDE else function


def _cpu_on(power: Power, arguments: tuple[int, int, int]) -> int:
    on = power.is_on(arguments[0])
    if on is not False:
        return INVALID_PARAMETERS if on is None else ALREADY_ON
    power.turn_on(*arguments)
    return 0


def _affinity_info(power: Power, arguments: tuple[int, int, int]) -> int:
    """0 on, 1 off; of single CPUs (level 0) only."""
    on = power.is_on(arguments[0]) if not arguments[1] else None
    return INVALID_PARAMETERS if on is None else int(not on)


def _cpu_suspend(power: Power, _arguments: tuple[int, int, int]) -> int:
    """A state in which the CPU would lose its registers is taken for standby (§5.4)."""
    power.wait()
    return 0


def _features(power: Power, arguments: tuple[int, int, int]) -> int:
    return 0 if _plain(arguments[0] & 0xFFFF_FFFF) in _HANDLERS else NOT_SUPPORTED


def _cpu_off(power: Power, _arguments: tuple[int, int, int]) -> int:
    power.turn_off()
    return 0


def _system(event: str) -> Callable[[Power, tuple[int, int, int]], int]:
    def handler(power: Power, _arguments: tuple[int, int, int]) -> int:
        power.system(event)
        return 0

    return handler


def _constant(value: int) -> Callable[[Power, tuple[int, int, int]], int]:
    return lambda _power, _arguments: value


_HANDLERS: dict[int, Callable[[Power, tuple[int, int, int]], int]] = {
    VERSION: _constant(0x1_0001),
    SMCCC_VERSION: _constant(0x1_0001),
    MIGRATE_INFO_TYPE: _constant(_NOTHING_TO_MIGRATE),
    CPU_SUSPEND: _cpu_suspend,
    CPU_ON: _cpu_on,
    CPU_OFF: _cpu_off,
    AFFINITY_INFO: _affinity_info,
    SYSTEM_OFF: _system("power-off"),
    SYSTEM_RESET: _system("reset"),
    FEATURES: _features,
}

"""Sleep, reset and the button (ACPI 6.5 §4.8.3)."""

from __future__ import annotations

import pytest

from vmlab.core.irq import IrqLine
from vmlab.devices.power import RESET_VALUE, SOFT_OFF, Power

CONTROL, STATUS, RESET = 0, 1, 2
ENABLE = 1 << 5


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def power(asked: list[str]) -> Power:
    return Power(lambda: asked.append("off"), lambda: asked.append("reset"))


def test_soft_off(power: Power, asked: list[str]) -> None:
    """§4.8.3.7.1: SLP_EN with the type of S5; SLP_EN reads as zero."""
    power.write(CONTROL, 1, SOFT_OFF << 2 | ENABLE)
    assert asked == ["off"]
    assert power.read(CONTROL, 1) == SOFT_OFF << 2


@pytest.mark.parametrize("kind", [0, 1, 3, 4, 6, 7])
def test_there_is_no_other_sleep(power: Power, asked: list[str], kind: int) -> None:
    power.write(CONTROL, 1, kind << 2 | ENABLE)
    assert asked == []
    assert power.counters.counts().mistakes == 1


def test_a_type_without_enable_does_nothing(power: Power, asked: list[str]) -> None:
    power.write(CONTROL, 1, SOFT_OFF << 2)
    assert asked == []


def test_reset_takes_the_value_of_the_fadt(power: Power, asked: list[str]) -> None:
    power.write(RESET, 1, RESET_VALUE ^ 1)
    assert asked == []
    power.write(RESET, 1, RESET_VALUE)
    assert asked == ["reset"]
    assert power.read(RESET, 1) == 0


def test_the_machine_has_never_slept(power: Power) -> None:
    assert power.read(STATUS, 1) == 0


def test_the_button_is_an_edge() -> None:
    power = Power()
    raised: list[bool] = []

    class Sink:
        def set(self, level: bool) -> None:
            raised.append(level)

        def pulse(self) -> None:
            raised.extend((True, False))

        def close(self) -> None:
            pass

    power.irq = IrqLine(16, Sink())
    power.press()
    assert raised == [True, False]

"""The PL061, and the power key on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vmlab.devices.arm.pl061 import POWER_KEY, PRESS, Pl061
from vmlab.errors import ConfigError
from vmlab.testing import DeviceHarness, ManualClock

DIR, IS, IBE, IEV, IE, RIS, MIS, IC = range(0x400, 0x420, 4)
ALL = 0x3FC


class Block:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.device = Pl061()
        self.harness = DeviceHarness(self.device, clock=self.clock)

    def __getitem__(self, register: int) -> int:
        return self.device.read(register, 4)

    def __setitem__(self, register: int, value: int) -> None:
        self.device.write(register, 4, value)

    @property
    def line(self) -> bool:
        return self.device.irq.level

    def drive(self, pin: int, level: bool) -> None:
        self.device.drive(pin, level)
        self.device.update()  # as a command from outside does


@pytest.fixture
def gpio() -> Iterator[Block]:
    made = Block()
    yield made
    made.harness.close()


def test_the_address_says_which_pins(gpio: Block) -> None:
    gpio[DIR] = 0xFF
    gpio[ALL] = 0xA5
    assert gpio[ALL] == 0xA5
    assert gpio[0x0F << 2] == 0x05
    gpio[0xF0 << 2] = 0x5A
    assert gpio[ALL] == 0x55
    assert gpio[0] == 0


def test_outputs_and_inputs(gpio: Block) -> None:
    gpio[DIR] = 0x0F
    gpio[ALL] = 0xFF
    assert gpio[ALL] == 0x0F, "an input is not written"
    gpio.drive(7, True)
    gpio.drive(0, False)
    assert gpio[ALL] == 0x8F


def test_edges(gpio: Block) -> None:
    gpio[IE] = 0xFF
    gpio[IEV] = 0x01
    for pin, level, status in (
        (0, True, 1),
        (1, True, 0),
        (1, False, 2),
        (0, False, 0),
    ):
        gpio[IC] = 0xFF
        assert not gpio.line
        gpio.drive(pin, level)
        assert gpio[RIS] == status
        assert gpio.line == bool(status)
    gpio[IBE] = 0x04
    for level in (True, False):
        gpio[IC] = 0xFF
        gpio.drive(2, level)
        assert gpio[MIS] == 4


def test_levels(gpio: Block) -> None:
    gpio[IS], gpio[IEV], gpio[IE] = 0x03, 0x02, 0x03
    assert gpio[RIS] == 0x01, "pin 0 is low, and that is what it waits for"
    gpio.drive(1, True)
    assert gpio[RIS] == 0x03
    gpio[IC] = 0xFF
    assert gpio[RIS] == 0x03, "a level is not cleared"
    gpio.drive(0, True)
    gpio.drive(1, False)
    assert gpio[RIS] == 0
    assert not gpio.line


def test_an_output_interrupts_nobody(gpio: Block) -> None:
    gpio[IE] = gpio[IBE] = gpio[DIR] = 0xFF
    gpio[ALL] = 0xFF
    gpio.drive(0, True)
    assert gpio[RIS] == 0


def test_the_power_key_goes_down_and_up(gpio: Block) -> None:
    key = 1 << POWER_KEY
    gpio[IBE] = gpio[IE] = key
    gpio.device.press()
    gpio.device.press()
    gpio.device.update()
    assert (gpio[ALL], gpio[MIS]) == (key, key)
    gpio[IC] = key
    assert not gpio.line
    gpio.clock.advance(PRESS // 1000)
    assert (gpio[ALL], gpio[MIS]) == (0, key)
    assert not gpio.clock.pending


def test_a_pin_that_is_not_there(gpio: Block) -> None:
    with pytest.raises(ConfigError, match="pin 8: there are 0 to 7"):
        gpio.device.drive(8, True)


def test_what_is_driven_stays_through_a_reset(gpio: Block) -> None:
    gpio.drive(5, True)
    gpio.device.reset()
    assert gpio[ALL] == 0x20

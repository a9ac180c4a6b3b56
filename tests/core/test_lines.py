"""Lines of one holder, lines of many, and who gets which."""

from __future__ import annotations

import pytest

from vmlab.core.lines import Lines
from vmlab.core.manager import DeviceType, MMIODeviceManager
from vmlab.errors import BusOverlap, ConfigError, IrqsExhausted, WindowsExhausted

BASE, LEN = 0xD000_0000, 0x1000
RNG, USER = DeviceType.virtio(4), DeviceType.USER


class Dummy:
    def read(self, offset: int, size: int) -> int:
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """Takes it."""


def manager(slots: int = 64) -> MMIODeviceManager:
    return MMIODeviceManager(shared_irqs=(17, 23), slots=slots)


def test_those_of_one_holder_go_first_then_the_least_held() -> None:
    lines, holders = Lines(5, 6, (17, 20)), dict[int, list[str]]()
    given = []
    for number in range(8):
        line = lines.free(holders, level=True, virtio=number % 4 != 3)
        assert line is not None
        holders.setdefault(line, []).append(str(number))
        given.append(line)
    assert given == [5, 6, 17, 19, 18, 17, 18, 20]
    assert lines.free(holders, level=False, virtio=True) is None
    assert Lines(5, 15).free({}, level=True, virtio=True) == 5
    assert Lines(5, 5).free({5: ["a"]}, level=True, virtio=True) is None


def test_lines_that_others_may_come_back_to_are_spared() -> None:
    lines = Lines(5, 7, (17, 23))
    assert lines.free({}, True, True, frozenset({5, 6})) == 7
    assert lines.free({}, True, True, frozenset({5, 6, 7})) == 17
    assert lines.free({}, False, True, frozenset({5, 6, 7})) == 5, "rather than none"


def test_without_shared_lines_it_is_as_ever() -> None:
    plain = MMIODeviceManager()
    for number in range(11):
        assert plain.register_mmio_device(Dummy(), 4, f"rng{number}")[1] == 5 + number
    with pytest.raises(IrqsExhausted, match=r"^no more IRQs are available$"):
        plain.register_mmio_device(Dummy(), 4, "rng11")
    with pytest.raises(ConfigError, match="line 17: devices have the lines 5 to 15"):
        plain.register_device(Dummy(), USER, "x", irq=17, level=True)


def test_at_and_irq() -> None:
    m = manager()
    assert m.register_device(Dummy(), USER, "a", at=BASE + 3 * LEN, irq=8) == (BASE + 3 * LEN, 8)
    assert m.register_device(Dummy(), RNG, "b", level=True) == (BASE, 5)
    assert m.register_device(Dummy(), USER, "c", irq=17, level=True) == (BASE + LEN, 17)
    assert m.register_device(Dummy(), RNG, "d", irq=17, level=True) == (BASE + 2 * LEN, 17)
    before = m.get_device_info()
    for place, error in (
        ({"irq": 8}, ConfigError),
        ({"irq": 18}, ConfigError),
        ({"at": BASE + 1}, ConfigError),
        ({"at": BASE + 3 * LEN}, BusOverlap),
    ):
        with pytest.raises(error):
            m.register_device(Dummy(), USER, "e", **place)  # type: ignore[arg-type]
    assert m.get_device_info() == before
    m.unregister(USER, "a")
    assert m.register_device(Dummy(), USER, "e", irq=8)[1] == 8


def test_the_slots_are_for_virtio_and_a_large_device_goes_above_them() -> None:
    m = manager(slots=4)
    assert m.register_device(Dummy(), USER, "large", size=5 * LEN, irq=False)[0] == BASE + 4 * LEN
    for number in range(4):
        assert m.register_mmio_device(Dummy(), 4, f"rng{number}")[0] == BASE + number * LEN
    with pytest.raises(WindowsExhausted, match="4 slots hold"):
        m.register_mmio_device(Dummy(), 4, "rng4")
    assert m.register_device(Dummy(), USER, "more", irq=False)[0] == BASE + 9 * LEN


def test_a_guest_finds_a_window_on_the_line_that_it_had() -> None:
    m = manager()
    m.paired = True
    assert m.register_device(Dummy(), RNG, "a", irq=9, level=True) == (BASE, 9)
    m.unregister(RNG, "a")
    with pytest.raises(ConfigError, match="knows the window at 0xd0000000 by line 9"):
        m.register_device(Dummy(), RNG, "b", at=BASE, irq=10, level=True)
    assert m.register_device(Dummy(), RNG, "b", irq=10, level=True) == (BASE + LEN, 10)
    assert m.register_device(Dummy(), RNG, "c", level=True) == (BASE, 9)
    m.unregister(RNG, "c")
    assert m.register_device(Dummy(), USER, "d", irq=9) == (BASE, 9), "it knows nothing of that one"
    m.unregister(USER, "d")
    m.register_device(Dummy(), USER, "e", at=0xE000_0000, irq=9)
    assert m.register_device(Dummy(), RNG, "f", level=True) == (BASE + 2 * LEN, 7), "9 is another's"
    m.unregister(USER, "e")
    m.forget_lines()
    assert m.register_device(Dummy(), RNG, "g", level=True) == (BASE, 5)
    assert m.register_device(Dummy(), RNG, "h", level=True) == (BASE + 3 * LEN, 8)


def test_a_replacement_that_needs_a_line() -> None:
    m = manager()
    m.register_device(Dummy(), USER, "a", irq=False)
    m.replace(USER, "a", Dummy())
    assert m.get_device_info()[USER, "a"].irq is None
    m.replace(USER, "a", Dummy(), irq=True)
    assert m.get_device_info()[USER, "a"].irq == 5
    m.replace(USER, "a", Dummy())
    assert m.get_device_info()[USER, "a"].irq == 5

"""System control port A."""

from __future__ import annotations

from vmlab.devices.pc.system_control import SystemControl


def test_a20_is_open_and_stays_so() -> None:
    told: list[str] = []
    port = SystemControl(lambda: told.append("reset"))
    port.on_mistake = lambda device, text: told.append(text)
    assert port.read(0, 1) == 2
    port.write(0, 1, 2)
    assert told == []
    port.write(0, 1, 0)
    assert told == ["A20 is to be closed; here it stays open"]


def test_bit_0_resets() -> None:
    resets: list[int] = []
    SystemControl(lambda: resets.append(1)).write(0, 1, 3)
    assert resets == [1]

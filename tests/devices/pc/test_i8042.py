"""The keyboard controller with nothing plugged in."""

from __future__ import annotations

import pytest

from vmlab.devices.pc.i8042 import I8042

DATA, STATUS, COMMAND = 0, 4, 4
OBF, SYS, CD, INH, AUX_OBF, TIMEOUT = 0x01, 0x04, 0x08, 0x10, 0x20, 0x40


@pytest.fixture
def chip() -> I8042:
    return I8042(lambda: pytest.fail("reset"))


def command(chip: I8042, code: int, argument: int | None = None) -> int | None:
    """Send a command as a careful driver does; the answer, or None."""
    chip.write(COMMAND, 1, code)
    if argument is not None:
        chip.write(DATA, 1, argument)
    return chip.read(DATA, 1) if chip.read(STATUS, 1) & OBF else None


def test_power_on(chip: I8042) -> None:
    assert chip.read(STATUS, 1) == INH
    assert chip.read(DATA, 1) == 0


@pytest.mark.parametrize("code", [0xFE, 0xF0, 0xFC])
def test_a_pulse_of_line_0_resets(code: int) -> None:
    resets: list[int] = []
    I8042(lambda: resets.append(1)).write(COMMAND, 1, code)
    assert resets == [1]


@pytest.mark.parametrize("code", [0xFF, 0xFD, 0xF1])
def test_a_pulse_of_other_lines_does_not(chip: I8042, code: int) -> None:
    assert command(chip, code) is None


def test_the_output_port_resets_too() -> None:
    resets: list[int] = []
    chip = I8042(lambda: resets.append(1))
    assert command(chip, 0xD0) == 0x03, "A20 is open"
    chip.write(COMMAND, 1, 0xD1)
    chip.write(DATA, 1, 0x03)
    assert not resets
    chip.write(COMMAND, 1, 0xD1)
    chip.write(DATA, 1, 0x02)
    assert resets == [1]


def test_self_test(chip: I8042) -> None:
    assert command(chip, 0xAA) == 0x55
    assert chip.read(STATUS, 1) & SYS
    assert not chip.read(STATUS, 1) & OBF, "reading empties the buffer"


@pytest.mark.parametrize("code", [0xAB, 0xA9])
def test_interface_tests(chip: I8042, code: int) -> None:
    assert command(chip, code) == 0x00


def test_the_command_byte(chip: I8042) -> None:
    assert command(chip, 0x60, 0x47) is None
    assert command(chip, 0x20) == 0x47
    for code, expected in ((0xAD, 0x57), (0xA7, 0x77), (0xAE, 0x67), (0xA8, 0x47)):
        assert command(chip, code) is None
        assert command(chip, 0x20) == expected


def test_the_status_says_what_was_written_last(chip: I8042) -> None:
    chip.write(COMMAND, 1, 0x60)
    assert chip.read(STATUS, 1) & CD
    chip.write(DATA, 1, 0)
    assert not chip.read(STATUS, 1) & CD


def test_output_buffer_commands(chip: I8042) -> None:
    assert command(chip, 0xD2, 0x5A) == 0x5A
    chip.write(COMMAND, 1, 0xD3)
    chip.write(DATA, 1, 0xA5)
    assert chip.read(STATUS, 1) & (OBF | AUX_OBF) == OBF | AUX_OBF
    assert chip.read(DATA, 1) == 0xA5
    assert not chip.read(STATUS, 1) & AUX_OBF


def test_no_keyboard_answers(chip: I8042) -> None:
    chip.write(DATA, 1, 0xF4)
    assert chip.read(STATUS, 1) & (OBF | TIMEOUT | AUX_OBF) == OBF | TIMEOUT
    assert chip.read(DATA, 1) == 0xFE
    assert not chip.read(STATUS, 1) & (OBF | TIMEOUT)


def test_no_mouse_answers(chip: I8042) -> None:
    chip.write(COMMAND, 1, 0xD4)
    chip.write(DATA, 1, 0xFF)
    assert chip.read(STATUS, 1) & (OBF | TIMEOUT | AUX_OBF) == OBF | TIMEOUT | AUX_OBF


def test_a_second_command_forgets_the_first(chip: I8042) -> None:
    chip.write(COMMAND, 1, 0x60)
    assert command(chip, 0xAA) == 0x55
    chip.write(DATA, 1, 0x00)
    chip.read(DATA, 1)
    assert command(chip, 0x20) == 0x30, "the command byte was not written"


def test_unknown_commands_are_told(chip: I8042) -> None:
    told: list[str] = []
    chip.on_mistake = lambda device, text: told.append(text)
    assert command(chip, 0xCC) is None
    assert told == ["command 0xcc is not modelled"]
    assert chip.counters.counts().mistakes == 1


def test_peek_takes_nothing(chip: I8042) -> None:
    chip.write(COMMAND, 1, 0xAA)
    assert chip.peek() == {"DATA": 0x55, "STATUS": SYS | CD | INH | OBF}
    assert chip.read(DATA, 1) == 0x55

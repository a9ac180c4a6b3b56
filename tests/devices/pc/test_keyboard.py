"""The keyboard behind its controller, as a guest sees it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmlab.devices.pc.i8042 import I8042, STROKE
from vmlab.devices.pc.keyboard import BUFFER
from vmlab.devices.pc.scan_codes import KEYS
from vmlab.errors import ConfigError
from vmlab.testing.clock import ManualClock
from vmlab.testing.harness import DeviceHarness

DATA, STATUS, COMMAND = 0, 4, 4
OBF = 0x01
ACK, RESEND = 0xFA, 0xFE


class Desk:
    """A keyboard, its controller, and a guest that reads what comes."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.chip = I8042(keyboard=True)
        self.harness = DeviceHarness(self.chip, clock=self.clock)

    def strike(self, *names: str, up: bool = True) -> int:
        keys = [(name, down) for name in names for down in ((True, False) if up else (True,))]
        taken: int = self.chip.keys(keys)
        self.chip.update()  # as a machine does behind a command
        return taken

    def drain(self) -> list[int]:
        found = []
        while self.chip.read(STATUS, 1) & OBF:
            found.append(self.chip.read(DATA, 1))
            self.clock.advance(STROKE // 1000)
        return found

    def tell(self, *values: int) -> list[int]:
        """Commands to the keyboard, and its answers."""
        found = []
        for value in values:
            self.chip.write(DATA, 1, value)
            found += self.drain()
        return found

    def command(self, code: int, argument: int | None = None) -> list[int]:
        self.chip.write(COMMAND, 1, code)
        if argument is not None:
            self.chip.write(DATA, 1, argument)
        return self.drain()


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.harness.close()


def test_firmware_has_left_it_on_with_interrupts_and_set_1(desk: Desk) -> None:
    assert desk.command(0x20) == [0x61]
    desk.strike("KeyA")
    assert desk.harness.line.level
    assert desk.drain() == [0x1E, 0x9E]
    assert not desk.harness.line.level


def test_the_firmware_has_read_an_answer(desk: Desk) -> None:
    """A guest that never looks at STATUS takes 0 for the end of its input."""
    assert desk.chip.read(DATA, 1) == ACK
    assert not desk.chip.read(STATUS, 1) & OBF


def test_each_byte_is_an_edge(desk: Desk) -> None:
    desk.strike("ArrowUp")
    assert desk.drain() == [0xE0, 0x48, 0xE0, 0xC8]
    assert desk.harness.irq_count == 4


def test_a_scan_code_takes_its_time_and_a_second_read_has_the_same(desk: Desk) -> None:
    desk.strike("KeyA")
    assert desk.chip.read(DATA, 1) == 0x1E
    assert desk.chip.read(DATA, 1) == 0x1E
    assert not desk.chip.read(STATUS, 1) & OBF
    desk.clock.advance(STROKE // 1000)
    assert desk.chip.read(DATA, 1) == 0x9E


def test_the_codes_of_one_key_come_sooner_than_the_next_key(desk: Desk) -> None:
    desk.strike("ArrowUp")
    for code, milliseconds in ((0xE0, 1), (0x48, 5), (0xE0, 1), (0xC8, 0)):
        assert desk.chip.read(DATA, 1) == code
        desk.clock.advance(milliseconds * 1000 - 1 if milliseconds else 0)
        assert not desk.chip.read(STATUS, 1) & OBF
        desk.clock.advance(1)


def test_set_2_untranslated(desk: Desk) -> None:
    desk.command(0x60, 0x01)
    desk.strike("KeyA", "Delete")
    assert desk.drain() == [0x1C, 0xF0, 0x1C, 0xE0, 0x71, 0xE0, 0xF0, 0x71]


def test_scan_code_sets(desk: Desk) -> None:
    desk.command(0x60, 0x01)
    assert desk.tell(0xF0, 0) == [ACK, ACK, 2]
    assert desk.tell(0xF0, 1) == [ACK, ACK]
    desk.strike("KeyA")
    assert desk.drain() == [0x1E, 0x9E]
    assert desk.tell(0xF0, 3) == [ACK, RESEND], "set 3 is refused"
    assert desk.tell(0xF0, 0) == [ACK, ACK, 1]


def test_leds_echo_identity_and_rate(desk: Desk) -> None:
    assert desk.tell(0xED, 0x05) == [ACK, ACK]
    assert desk.chip.inspect()["leds"] == 5
    assert desk.tell(0xEE) == [0xEE]
    assert desk.tell(0xF2) == [ACK, 0xAB, 0x41], "translated, as all that it sends"
    assert desk.tell(0xF3, 0x20) == [ACK, ACK]
    assert desk.tell(0x01) == [RESEND], "no such command"


def test_reset_answers_with_the_self_test(desk: Desk) -> None:
    desk.strike("KeyA")
    desk.drain()
    assert desk.tell(0xFF) == [ACK, 0xAA]
    assert desk.tell(0xFE) == [0xAA], "again"


def test_scanning_off_and_on(desk: Desk) -> None:
    assert desk.tell(0xF5) == [ACK]
    desk.strike("KeyA")
    assert desk.drain() == []
    assert desk.tell(0xF4) == [ACK]
    desk.strike("KeyB")
    assert desk.drain() == [0x30, 0xB0]


def test_the_interface_off_keeps_keys_for_later(desk: Desk) -> None:
    desk.command(0xAD)
    desk.strike("KeyA")
    assert desk.drain() == []
    assert not desk.harness.line.level
    assert desk.command(0xAE) == [0x1E, 0x9E]


def test_no_interrupts_unless_they_are_on(desk: Desk) -> None:
    desk.command(0x60, 0x40)
    before = desk.harness.irq_count
    desk.strike("KeyA")
    assert desk.drain() == [0x1E, 0x9E]
    assert desk.harness.irq_count == before


def test_an_answer_does_not_lose_the_key_before_it(desk: Desk) -> None:
    desk.strike("KeyA", up=False)
    assert desk.command(0x20) == [0x61, 0x1E]


def test_a_mouse_is_absent(desk: Desk) -> None:
    assert desk.command(0xD4, 0xFF) == [RESEND]


def test_a20_is_told_and_stays_open(desk: Desk) -> None:
    assert desk.command(0xDD) == []
    assert desk.command(0xD0) == [0x01]
    assert desk.harness.mistakes == ["A20 is to be closed; here it stays open"]
    desk.command(0xDF)
    assert desk.command(0xD0) == [0x03]


def test_a_flood_ends_in_an_overrun_code(desk: Desk) -> None:
    taken = desk.strike(*["KeyA"] * 1000, up=False)
    assert taken == BUFFER, "one waits in the controller, and the last place is the overrun's"
    assert desk.drain() == [0x1E] * BUFFER + [0xFF]


def test_who_waits_loses_nothing(desk: Desk) -> None:
    keys, seen = [("KeyA", True), ("KeyA", False)] * 40, list[int]()
    while keys:
        del keys[: desk.chip.keys(keys, True)]
        seen += desk.drain()
    assert seen == [0x1E, 0x9E] * 40


def test_wrong_keys(desk: Desk) -> None:
    with pytest.raises(ConfigError, match="did you mean 'KeyA'"):
        desk.chip.keys([("keya", True)])
    with pytest.raises(ConfigError, match="one call takes 4,096"):
        desk.chip.keys([("KeyA", True)] * 5000)
    with pytest.raises(ConfigError, match="no keyboard is plugged in"):
        I8042().keys([("KeyA", True)])


def test_every_key_has_codes_of_its_own(desk: Desk) -> None:
    seen = set[bytes]()
    for name in KEYS:
        desk.strike(name)
        codes = bytes(desk.drain())
        assert codes not in seen | {b""}, name
        seen.add(codes)


BYTES = st.tuples(st.sampled_from([DATA, COMMAND]), st.integers(0, 255))
STRIKES = st.tuples(st.sampled_from(sorted(KEYS)), st.booleans())


@given(st.lists(BYTES | STRIKES | st.none(), max_size=60))
def test_wild_commands_and_keys(steps: list[tuple[int | str, int] | None]) -> None:
    desk = Desk()
    try:
        for step in steps:
            if step is None:
                desk.chip.read(DATA, 1)
                desk.clock.advance(700)
            elif isinstance(step[0], str):
                desk.chip.keys([(step[0], bool(step[1]))])
            else:
                desk.chip.write(step[0], 1, step[1])
        assert len(desk.drain()) <= 2 * BUFFER + 4, "whatever was done, what waits is bounded"
    finally:
        desk.harness.close()

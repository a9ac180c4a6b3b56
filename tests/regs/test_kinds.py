"""Enumerated and reserved bits, write-one-to-set, arrays, and what the specification says."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmlab import VM
from vmlab.core.device import Device, on_peek, on_read, on_write
from vmlab.errors import RegisterTableError
from vmlab.machine.introspection import _described
from vmlab.regs import Registers, array, bit, bits, block, reserved, ro, rw, w1c, w1s
from vmlab.testing import DeviceHarness

SPEED = {0: "stopped", 1: "slow", 3: "fast"}


class Fan(Device):
    class regs(Registers):
        CTRL = rw(
            0x00,
            "control",
            spec="Fan data sheet §2: SPEED takes effect with the next turn",
            reset=1,
            SPEED=bits(0, 2, "how fast", values=SPEED),
            LATER=reserved(2, 6),
            QUIET=bit(8),
        )
        PENDING = w1s(0x04, "asked for", GO=bit(0), FIXED=bit(1, access="ro"))
        DONE = w1c(0x08, "what happened", LATER=reserved(4, 28))
        DUTY = array(4, rw(0x10, "percent", 8, reset=50))
        TEMP = array(3, ro(0x20, "degrees", 16), stride=8)

    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []

    @on_write("DUTY")
    def duty(self, index: int, value: int) -> None:
        self.told.append((index, value))

    @on_peek("TEMP")
    def temperature(self, index: int) -> int:
        return 20 + index

    @on_read("TEMP2")
    def hot(self) -> int:
        return 99


def test_an_enumerated_field_has_words() -> None:
    field = Fan.regs.CTRL.SPEED
    assert [field.word(value) for value in (0x100, 1, 2, 0xFF)] == ["stopped", "slow", "", "fast"]
    assert pickle.loads(pickle.dumps(Fan.regs.CTRL)).SPEED.values == SPEED


@given(st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 32) - 1))
def test_a_write_does_to_each_bit_what_the_table_says(before: int, value: int) -> None:
    fan = Fan()
    fan.r.CTRL, fan.r.PENDING, fan.r.DONE = before & ~0xFC, before, before & 0xF
    for offset in (0x00, 0x04, 0x08):
        fan.write(offset, 4, value)
    assert fan.read(0x00, 4) == value & ~0xFC, "reserved bits stay zero"
    assert fan.read(0x04, 4) == before | value & ~2, "ones set"
    assert fan.read(0x08, 4) == before & 0xF & ~value


@given(st.integers(0, 3), st.integers(0, 255))
def test_a_byte_of_a_register_that_is_set_by_ones_sets_no_others(at: int, value: int) -> None:
    fan = Fan()
    fan.r.PENDING = 0x0101_0100
    fan.write(0x04 + at, 1, value)
    assert fan.r.PENDING == 0x0101_0100 | value << 8 * at & ~2


def test_an_array_is_so_many_registers() -> None:
    fan = Fan()
    names = [row.name for row in Fan.regs.table]
    assert names[3:] == ["DUTY0", "DUTY1", "DUTY2", "DUTY3", "TEMP0", "TEMP1", "TEMP2"]
    assert [Fan.regs.by_name[f"TEMP{n}"].offset for n in range(3)] == [0x20, 0x28, 0x30]
    assert (list(fan.r.DUTY), len(fan.r.DUTY), fan.r.DUTY[1:3]) == ([50] * 4, 4, [50, 50])
    fan.write(0x12, 1, 80)
    assert (fan.told, fan.r.DUTY2, repr(fan.r.DUTY)) == ([(2, 80)], 80, "[50, 50, 80, 50]")
    fan.write(0x10, 4, 0x0403_0201)
    assert fan.told[1:] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    fan.r.DUTY[0] = 9
    fan.r.DUTY = [fan.r.DUTY[0], 7, 7, 7]
    assert fan.read(0x10, 4) == 0x0707_0709
    assert [fan.read(0x20 + 8 * n, 2) for n in range(3)] == [20, 21, 99], "TEMP2 has its own"
    assert fan.peek("TEMP1") == 21
    fan.reset()
    assert list(fan.r.DUTY) == [50] * 4
    with pytest.raises(IndexError):
        fan.r.DUTY[4]


def test_arrays_travel_and_are_counted(engine: str) -> None:
    with VM("monitor", engine=engine) as vm:
        vm.console.expect("> ")
        view = vm.hot_add(Fan(), id="fan")
        vm.console.run(f"poke {view.base + 0x10:#x} 0x04030201")
        counts = view.counts.registers
        assert [counts[f"DUTY{n}"].writes for n in range(4)] == [1] * 4
        assert (view.peek("DUTY3"), view.r.DUTY3) == (4, 4)
        [row] = [row for row in view.registers if row.name == "CTRL"]
        assert row.spec.startswith("Fan data sheet §2")
        assert (row.fields[0].values, row.fields[1].reserved) == (SPEED, True)


def test_what_views_are_told() -> None:
    entry = _described(Fan.regs.by_name["CTRL"])
    assert [field.name for field in entry.fields] == ["SPEED", "LATER", "QUIET"]
    assert entry.fields[0].values == SPEED


def test_the_harness_knows_them() -> None:
    with DeviceHarness(Fan()) as harness:
        assert harness.device.register_at(0x11, 1, True) == "DUTY1"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: bits(0, 2, values={4: "no"}), "4 is no value of a field of 2 bits"),
        (lambda: bits(0, 2, values={"a": "no"}), "'a' is no value"),  # type: ignore[dict-item]
        (lambda: bits(0, 2, values={1: ""}), "the value 1 of a field: '' is no word"),
        (lambda: reserved(0, 0), "has no bits"),
        (lambda: array(0, rw(0)), "count=0 of an array: a whole number from 1"),
        (lambda: array(2, rw(0), stride=-4), "stride=-4 of an array"),
        (lambda: array(2, block(0, 8)), "an array is of plain registers"),
        (lambda: array(2, array(2, rw(0))), "an array is of plain registers"),
    ],
)
def test_what_cannot_be_is_said_at_once(make: Any, words: str) -> None:
    with pytest.raises(RegisterTableError, match=words):
        make()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ({"A": array(3, rw(0)), "B": rw(8)}, "A2 at 0x8 and B at 0x8 overlap"),
        ({"A": array(2, rw(0), stride=2)}, "A1 at 0x2: not aligned"),
        (
            {"A": array(2, rw(0, width=16), stride=2), "A1": rw(8)},
            "there is a register A1 already",
        ),
        ({"A": rw(0, reset=0x10, R=reserved(4))}, "the reset value 0x10 sets reserved bits of R"),
        ({"A": ro(0, X=bit(0, access="w1s"))}, "X is w1s in a register that is ro"),
    ],
)
def test_a_table_is_checked_when_its_class_is_made(rows: dict[str, Any], words: str) -> None:
    with pytest.raises(RegisterTableError, match=words):
        type("regs", (Registers,), rows)


def test_a_handler_of_an_array_takes_its_index() -> None:
    with pytest.raises(RegisterTableError, match=r"write it as def put\(self, index, value\)"):

        class Wrong(Device):
            class regs(Registers):
                DATA = array(2, rw(0))

            @on_write("DATA")
            def put(self, value: int) -> None: ...

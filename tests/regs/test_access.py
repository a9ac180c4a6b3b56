"""What the guest's accesses do, as a table and its handlers say."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmlab.core import dispatch
from vmlab.core.device import Device, on_peek, on_read, on_write
from vmlab.errors import RegisterTableError
from vmlab.regs import Registers, bits, block, pair64, rc, ro, rw, w1c, wo


class Plain(Device):
    """Registers of every width side by side, with a gap at 0x0e and nothing from 0x18 on."""

    size = 0x20
    reserved = 0xA5A5_A5A5_A5A5_A5A5

    class regs(Registers):
        BYTE0 = rw(0x00, "a byte", 8, reset=0x11)
        BYTE1 = rw(0x01, "a byte", 8)
        HALF = rw(0x02, "two bytes", 16, reset=0x2233)
        WORD = rw(0x04, "four bytes", 32)
        LONG = rw(0x08, "four bytes more", 32)
        LAST = rw(0x0C, "two bytes before a gap", 16)
        WIDE = rw(0x10, "eight bytes", 64, reset=0x0123_4567_89AB_CDEF)


#: bytes that are registers, and what they hold at first
STORED = [*range(0x0E), *range(0x10, 0x18)]


class ByteModel:
    """The same device as bytes: what an access of any size must do."""

    def __init__(self) -> None:
        self.bytes = bytearray([0xA5] * 0x20)
        for at in STORED:
            self.bytes[at] = 0
        self.bytes[0x00] = 0x11
        self.bytes[0x02:0x04] = b"\x33\x22"
        self.bytes[0x10:0x18] = 0x0123_4567_89AB_CDEF.to_bytes(8, "little")

    def read(self, offset: int, size: int) -> int:
        return int.from_bytes(self.bytes[offset : offset + size], "little")

    def write(self, offset: int, size: int, value: int) -> None:
        data = value.to_bytes(8, "little")
        for step in range(size):
            if offset + step in STORED:
                self.bytes[offset + step] = data[step]


ACCESS = st.tuples(
    st.booleans(),
    st.integers(0, 0x18),
    st.integers(1, 8),
    st.integers(0, (1 << 64) - 1),
)


@settings(deadline=None)
@given(st.lists(ACCESS, max_size=30))
def test_accesses_of_any_size_are_as_on_bytes(program: list[tuple[bool, int, int, int]]) -> None:
    device, model = Plain(), ByteModel()
    reads = writes = size_in_all = 0
    for write, offset, size, value in program:
        value &= (1 << 8 * size) - 1
        if write:
            device.write(offset, size, value)
            model.write(offset, size, value)
            writes += 1
        else:
            assert device.read(offset, size) == model.read(offset, size)
            reads += 1
        size_in_all += size
    counts = device.counters.counts()
    assert (counts.reads, counts.writes) == (reads, writes), "one count an access, however composed"
    assert counts.bytes == size_in_all
    for name, row in Plain.regs.by_name.items():
        assert device.peek(name) == model.read(row.offset, row.size)
    assert device.counters.counts() == counts, "looking is not counted"


def test_a_host_that_passes_too_large_a_value_does_no_harm() -> None:
    device = Plain()
    for size in (1, 2, 4, 8):
        device.write(0, size, -1)
        device.write(1, size, 1 << 200)
    assert device.peek("BYTE0") == 0xFF
    assert all(
        0 <= value <= row.mask for row in Plain.regs.table for value in [device.peek(row.name)]
    )


def test_accesses_that_hit_nothing_are_counted_and_read_as_reserved() -> None:
    device = Plain()
    assert device.read(0x1C, 2) == 0xA5A5
    device.write(0x1C, 4, 1)
    counts = device.counters.counts()
    assert (counts.reads, counts.writes, counts.bytes) == (1, 1, 6)
    assert all(one.reads == one.writes == 0 for one in counts.registers.values())


def test_composed_accesses_are_kept_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "KEPT", 20)
    device = Plain()
    for offset in range(0x20):
        for size in range(1, 9):
            device.read(offset, size)
            device.write(offset, size, 0)
    assert len(device._accessors._readers) <= 20
    assert len(device._accessors._writers) <= 20
    assert device.counters.counts().traps == 2 * 0x20 * 8


# --- strict ---------------------------------------------------------------------------------------


class Strict(Device):
    class regs(Registers, strict=True):
        A = rw(0, "a")
        B = rw(4, "b")
        SPACE = block(8, 8, "bytes")


@pytest.mark.parametrize(("offset", "size"), [(0, 1), (0, 2), (0, 8), (1, 4), (2, 4), (4, 8)])
def test_a_strict_table_takes_whole_registers_only(offset: int, size: int) -> None:
    device = Strict()
    device.write(offset, size, 0xFFFF_FFFF_FFFF_FFFF)
    assert device.peek() == {"A": 0, "B": 0}
    assert device.read(offset, size) == 0
    assert device.register_at(offset, size, True) == ""
    assert device.counters.counts().traps == 2


# --- kinds of registers ---------------------------------------------------------------------------


class Kinds(Device):
    class regs(Registers):
        FLAGS = w1c(0x00, "flags", reset=0xF0F0)
        COUNT = rc(0x04, "count", reset=7)
        KEY = wo(0x08, "key")
        ID = ro(0x0C, "id", reset=0x1234)
        MIXED = rw(
            0x10,
            "mixed",
            reset=0x00FF_0000,
            KEPT=bits(0, 8),
            FIXED=bits(8, 8, access="ro"),
            EVENTS=bits(16, 8, access="w1c"),
            FUTURE=bits(24, 8, modelled=False),
        )
        BASE = pair64(0x18, "where", reset=0xAAAA_AAAA_5555_5555)

    def __init__(self) -> None:
        self.written: list[tuple[str, int]] = []

    @on_write("FLAGS", "KEY", "MIXED")
    def _note(self, value: int) -> None:
        self.written.append(("", value))


def test_write_1_to_clear() -> None:
    device = Kinds()
    device.write(0, 4, 0x00F0)
    assert device.read(0, 4) == 0xF000
    assert device.written == [("", 0x00F0)], "the handler sees what was written"


def test_writing_one_byte_of_it_clears_only_there() -> None:
    device = Kinds()
    device.write(1, 1, 0xFF)
    assert device.read(0, 4) == 0x00F0


def test_read_to_clear() -> None:
    device = Kinds()
    assert device.peek("COUNT") == 7
    assert device.read(4, 4) == 7
    assert device.read(4, 4) == 0
    device.write(4, 4, 9)
    assert device.peek("COUNT") == 0


def test_write_only_reads_as_reserved_and_is_not_peeked() -> None:
    device = Kinds()
    device.write(8, 4, 0x1122_3344)
    assert device.read(8, 4) == 0
    assert "KEY" not in device.peek()
    assert device.peek("KEY") is None
    device.write(8, 1, 0x55)
    assert device.written == [("", 0x1122_3344), ("", 0x55)], "what it was is not mixed in"


def test_read_only_ignores_writes() -> None:
    device = Kinds()
    device.write(0xC, 4, 0)
    assert device.read(0xC, 4) == 0x1234


def test_fields_override_their_register() -> None:
    device = Kinds()
    device.write(0x10, 4, 0x000F_FFAB)
    assert device.read(0x10, 4) == 0x00F0_00AB
    assert device.written == [("", 0x00F0_00AB)]


def test_bits_that_are_not_modelled_are_kept_and_told_once() -> None:
    device, told = Kinds(), []
    device.on_mistake = lambda who, text: told.append(text)
    device.write(0x10, 4, 0x0100_0000)
    device.write(0x10, 1, 0x01)
    device.write(0x10, 4, 0x0100_0000)
    assert told == ["MIXED: bits 0x1000000 are not modelled"]
    assert device.counters.counts().mistakes == 1
    device.write(0x10, 4, 0x0300_0000)
    assert told[1:] == ["MIXED: bits 0x2000000 are not modelled"]
    assert device.read(0x10, 4) >> 24 == 3


def test_a_pair_is_one_value() -> None:
    device = Kinds()
    assert device.r.BASE == 0xAAAA_AAAA_5555_5555
    device.write(0x18, 4, 1)
    device.write(0x1C, 4, 2)
    assert device.r.BASE == 0x2_0000_0001
    device.write(0x18, 8, 0x1122_3344_5566_7788)
    assert device.r.BASE == 0x1122_3344_5566_7788
    device.r.BASE = 5 << 32 | 6
    assert (device.peek("BASELow"), device.peek("BASEHigh")) == (6, 5)
    device.reset()
    assert device.r.BASE == 0xAAAA_AAAA_5555_5555


# --- banks ----------------------------------------------------------------------------------------


class Banked(Device):
    class regs(Registers):
        SELECT = rw(0x00, "selector", 8)
        LOW = rw(0x01, "there while bit 7 is clear", 8, when=("SELECT", 0x80, 0))
        HIGH = rw(0x01, "there while bit 7 is set", 8, when=("SELECT", 0x80, 0x80))
        QUEUE = rw(0x04, "one a bank", reset=3, banked_by=("SELECT", 4))
        RING = pair64(0x08, "one pair a bank", banked_by=("SELECT", 4))
        #: 16 bits in one bank, two bytes in another, nothing in the others
        WORD = rw(0x10, "whole", 16, when=("SELECT", 3, 0))
        LEFT = rw(0x10, "left", 8, when=("SELECT", 3, 1))
        RIGHT = rw(0x11, "right", 8, when=("SELECT", 3, 1))


def test_conditional_registers() -> None:
    device = Banked()
    device.write(1, 1, 0x11)
    device.write(0, 1, 0x80)
    device.write(1, 1, 0x22)
    assert device.read(1, 1) == 0x22
    assert device.register_at(1, 1, False) == "HIGH"
    device.write(0, 1, 0)
    assert device.read(1, 1) == 0x11
    assert device.register_at(1, 1, False) == "LOW"
    counts = device.counters.counts().registers
    assert [counts[name].reads for name in ("LOW", "HIGH")] == [1, 1]


def test_a_wide_write_takes_effect_byte_after_byte() -> None:
    device = Banked()
    device.write(0, 2, 0x5580)
    assert (device.peek("HIGH"), device.peek("LOW")) == (0x55, 0)
    assert device.counters.counts().writes == 1


def test_one_value_a_bank() -> None:
    device = Banked()
    for bank in range(6):
        device.write(0, 1, bank)
        device.write(4, 4, 100 + bank)
    values = []
    for bank in range(6):
        device.write(0, 1, bank)
        values.append(device.read(4, 4))
        assert device.peek("QUEUE") == values[-1]
    assert values == [100, 101, 102, 103, 0, 0], "a selector out of range reads 0, ignores writes"
    device.reset()
    assert device.r.QUEUE == [3, 3, 3, 3]


def test_pairs_in_banks() -> None:
    device = Banked()
    device.write(0, 1, 2)
    device.write(8, 8, 0x9_0000_0007)
    assert device.r.RING == [0, 0, 0x9_0000_0007, 0]
    device.r.RING = [1 << 32, 2, 3, 4]
    device.write(0, 1, 0)
    assert device.read(8, 8) == 1 << 32


def test_registers_of_other_sizes_in_other_banks() -> None:
    device = Banked()
    device.write(0x10, 2, 0xBEEF)
    assert device.read(0x10, 1) == 0xEF
    device.write(0, 1, 1)
    assert device.read(0x10, 2) == 0
    device.write(0x10, 2, 0x1234)
    assert (device.peek("LEFT"), device.peek("RIGHT")) == (0x34, 0x12)
    device.write(0, 1, 2)
    device.write(0x10, 2, 0xFFFF)
    assert device.read(0x10, 2) == 0
    assert device.peek("WORD") == 0xBEEF
    assert device.counters.counts().traps == 8


# --- handlers -------------------------------------------------------------------------------------


class Handled(Device):
    class regs(Registers):
        NEXT = ro(0x00, "counts its reads")
        NOW = ro(0x04, "computed")
        BOTH = ro(0x08, "side effect when read, computed when peeked")
        SPACE = block(0x10, 0x10, "bytes")
        LEVEL = rw(0x20, "drives the line")

    def __init__(self) -> None:
        self.count = 0
        self.bytes = bytearray(0x10)

    def irq_level(self) -> bool:
        return bool(self.r.LEVEL or self.bytes[0])

    @on_read("NEXT", "BOTH")
    def _next(self) -> int:
        self.count += 1
        return self.count

    @on_peek("NOW", "BOTH")
    def _now(self) -> int:
        return 100 + self.count

    @on_read("SPACE")
    def _get(self, offset: int, size: int) -> int:
        return int.from_bytes(self.bytes[offset : offset + size], "little")

    @on_write("SPACE")
    def _put(self, offset: int, size: int, value: int) -> None:
        self.bytes[offset : offset + size] = value.to_bytes(size, "little")


def test_a_read_with_a_side_effect_is_not_a_peek() -> None:
    device = Handled()
    assert device.read(0, 4) == 1
    assert device.peek("NEXT") == 1, "what the last read gave"
    assert device.read(0, 4) == 2
    assert device.peek("NOW") == 102
    assert device.read(4, 4) == 102, "a pure handler serves the guest too"
    assert device.peek("BOTH") == 102
    assert device.read(8, 4) == 3
    assert device.count == 3


def test_peek_of_a_name_that_is_none() -> None:
    with pytest.raises(KeyError, match="NONSENSE"):
        Handled().peek("NONSENSE")


def test_blocks_are_decoded_by_their_handlers() -> None:
    device = Handled()
    device.write(0x14, 4, 0x1122_3344)
    assert device.read(0x15, 2) == 0x2233
    assert device.read(0x1F, 2) == 0, "across its end there is no register"
    assert device.peek("SPACE") is None
    assert device.counters.counts().registers["SPACE"].writes == 1
    assert device.counters.counts().traps == 3


def test_the_line_follows_every_access() -> None:
    device = Handled()
    device.write(0x20, 4, 1)
    assert device.irq.level
    device.write(0x20, 4, 0)
    assert not device.irq.level
    device.write(0x10, 1, 1)
    assert device.irq.level, "blocks too"
    device.bytes[0] = 0
    device.update()
    assert not device.irq.level
    assert device.irq.raised == 2


def test_reset_drops_the_line_and_the_values() -> None:
    device = Handled()
    device.write(0x20, 4, 1)
    device.reset()
    assert not device.irq.level
    assert device.peek("LEVEL") == 0


def test_a_handler_may_be_overridden_by_name() -> None:
    class Other(Handled):
        def _next(self) -> int:
            return 7

    assert Other().read(0, 4) == 7


def test_the_example_of_the_module() -> None:
    class Dice(Device):
        class regs(Registers):
            ROLL = ro(0x00, "a new roll each read")
            SIDES = rw(0x04, "number of sides", reset=6)

        @on_read("ROLL")
        def roll(self) -> int:
            return random.randrange(self.r.SIDES) + 1

    dice = Dice()
    assert all(1 <= dice.read(0, 4) <= 6 for _ in range(50))
    assert Dice.type == "dice"


def _with(handler: Any) -> Any:
    class regs(Registers):
        A = ro(0, "a")
        B = wo(4, "b")

    return lambda: type("Broken", (Device,), {"regs": regs, "handler": handler})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_with(on_read("C")(lambda self: 0)), "handles C, which is no register"),
        (_with(on_write("A")(lambda self, value: None)), "handles the write of A, which is ro"),
        (_with(on_read("B")(lambda self: 0)), "handles the read of B, which is wo"),
        (
            lambda: type("Small", (Device,), {"regs": Handled.regs, "size": 0x10}),
            "lies outside its 0x10 bytes",
        ),
        (lambda: type("NoTable", (Device,), {"regs": int}), "class regs\\(Registers\\)"),
    ],
)
def test_classes_that_contradict_their_table(make: Any, message: str) -> None:
    with pytest.raises(RegisterTableError, match=message):
        make()


def test_what_the_tracer_is_told() -> None:
    device = Kinds()
    assert device.register_at(0, 4, True) == "FLAGS"
    assert device.register_at(0, 8, False) == "FLAGS+COUNT"
    assert device.register_at(0, 8, True) == "FLAGS"
    assert device.register_at(0x40, 4, False) == ""

"""What a table says, and every way in which one contradicts itself."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest

from vmlab.errors import RegisterTableError
from vmlab.regs import Register, Registers, bit, bits, block, pair64, rc, ro, rw, w1c, wo


class Example(Registers):
    CTRL = rw(0x00, "control", ENABLE=bit(0, "run"), MODE=bits(4, 3, "how"))
    STATUS = w1c(0x04, "status", DONE=bit(0))
    ADDRESS = pair64(0x08, "where", reset=0x1_0000_0002)
    DATA = ro(0x10, "data", 8)
    COMMAND = wo(0x10, "command", 8)
    COUNT = rc(0x14, "count")
    CONFIG = block(0x100, 0x80, "configuration")


def test_rows_are_named_and_sorted_by_offset() -> None:
    assert [row.name for row in Example.table] == [
        "CTRL",
        "STATUS",
        "ADDRESSLow",
        "ADDRESSHigh",
        "COMMAND",
        "DATA",
        "COUNT",
        "CONFIG",
    ]
    assert Example.by_name["CTRL"] is Example.CTRL


def test_a_field_is_its_mask_and_knows_its_place() -> None:
    mode = Example.CTRL.MODE
    assert mode == 0x70
    assert (mode.name, mode.low, mode.width, mode.doc) == ("MODE", 4, 3, "how")
    assert mode.of(0xFF) == 7
    assert mode.put(0xFF, 2) == 0xAF
    assert mode.put(0, 0xFF) == 0x70, "what does not fit the field is cut off"


def test_an_unknown_field_is_named_in_the_error() -> None:
    with pytest.raises(AttributeError, match="register CTRL has no field SPEED"):
        _ = Example.CTRL.SPEED


def test_one_field_may_serve_two_registers() -> None:
    shared = bit(3, "shared")

    class Table(Registers):
        A = rw(0, "a", FIRST=shared)
        B = rw(4, "b", SECOND=shared)

    assert Table.A.FIRST.name == "FIRST"
    assert Table.B.SECOND.name == "SECOND"


def test_pairs_split_their_reset_value() -> None:
    low, high = Example.by_name["ADDRESSLow"], Example.by_name["ADDRESSHigh"]
    assert (low.offset, low.reset, high.offset, high.reset) == (8, 2, 12, 1)
    assert Example.pairs == ("ADDRESS",)


def test_a_table_may_extend_another() -> None:
    class More(Example):
        EXTRA = ro(0x18, "one more")

    assert "CTRL" in More.by_name
    assert "EXTRA" in More.by_name
    assert "EXTRA" not in Example.by_name


def test_strictness_is_inherited() -> None:
    class Strict(Registers, strict=True):
        A = ro(0, "a")

    class Child(Strict):
        B = ro(4, "b")

    assert Child.strict
    assert not Example.strict


def test_registers_travel() -> None:
    row = Example.CTRL
    for made in (pickle.loads(pickle.dumps(row)), copy.deepcopy(row)):
        assert made == row
        assert made.MODE.low == 4


def test_masks_follow_the_access_and_the_fields() -> None:
    mixed = rw(
        0, "x", 8, A=bits(0, 4, access="ro"), B=bit(4, access="w1c"), C=bit(5, modelled=False)
    )
    assert mixed.masks() == (0xE0, 0x10, 0x20)
    assert ro(0, "x", 8).masks() == (0, 0, 0)
    assert w1c(0, "x", 8).masks() == (0, 0xFF, 0)
    assert wo(0, "x", 8).masks() == (0xFF, 0, 0)


def test_what_can_be_read_and_written() -> None:
    rights = {"ro": (1, 0), "rw": (1, 1), "wo": (0, 1), "w1c": (1, 1), "rc": (1, 0)}
    for make in (ro, rw, wo, w1c, rc):
        row = make(0, "x")
        assert (row.readable, row.writable) == rights[row.access]


def test_exclusive_rows_may_share_an_offset() -> None:
    class Banks(Registers):
        SELECT = rw(0, "selector", 8)
        A = rw(1, "a", 8, when=("SELECT", 0x0F, 1))
        B = rw(1, "b", 8, when=("SELECT", 0x0F, range(2, 8)))
        C = rw(1, "c", 8, when=("SELECT", 0x0F, {0, 8}))

    assert Banks.B.selected == frozenset({2, 3, 4, 5, 6, 7})


# --- contradictions ------------------------------------------------------------------------------

SELECTOR = rw(0x80, "selector", 8)


def _rows(**rows: Register) -> Callable[[], object]:
    return lambda: type("Table", (Registers,), rows)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_rows(A=rw(0, "a"), B=rw(0, "b")), "overlap"),
        (_rows(A=rw(0, "a"), B=ro(2, "b", 16)), "overlap"),
        (_rows(A=rw(0, "a"), B=block(2, 8, "b")), "overlap"),
        (_rows(A=rw(0, "a", 8), B=wo(0, "b", 8)), "overlap"),
        (_rows(A=ro(0, "a"), B=wo(0, "b", 8)), "overlap"),
        (_rows(A=pair64(0, "a"), B=rw(4, "b")), "overlap"),
        (
            _rows(S=SELECTOR, A=rw(0, "a", when=("S", 1, 1)), B=rw(0, "b", when=("S", 1, {0, 1}))),
            "overlap",
        ),
        (
            _rows(S=SELECTOR, A=rw(0, "a", when=("S", 1, 1)), B=rw(0, "b", when=("S", 2, 0))),
            "overlap",
        ),
        (_rows(S=SELECTOR, A=rw(0, "a", when=("S", 1, 1)), B=rw(0, "b")), "overlap"),
        (_rows(A=rw(-4, "a")), "negative"),
        (_rows(A=block(0, 0, "a")), "not zero"),
        (_rows(A=rw(0, "a", 24)), "width of 24 bits"),
        (_rows(A=rw(0, "a", 12)), "width of 12 bits"),
        (_rows(A=rw(2, "a", 32)), "not aligned"),
        (_rows(A=rw(0, "a", 8, reset=0x100)), "reset value 0x100 does not fit 8 bits"),
        (_rows(A=rw(0, "a", reset=-1)), "reset value"),
        (_rows(A=pair64(0, "a", reset=1 << 64)), "does not fit 64 bits"),
        (_rows(A=rw(0, "a", 8, X=bit(8))), "field X lies outside its 8 bits"),
        (_rows(A=rw(0, "a", 8, X=bits(0, 2), Y=bit(1))), "field Y overlaps"),
        (_rows(A=ro(0, "a", X=bit(0, access="rw"))), "is rw in a register that is ro"),
        (_rows(A=rc(0, "a", X=bit(0, access="w1c"))), "is w1c in a register that is rc"),
        (_rows(A=rw(0, "a", mask=bit(1))), "field mask would be hidden"),
        (_rows(A=rw(0, "a", when=("NONE", 1, 1))), "selector NONE"),
        (
            _rows(S=SELECTOR, A=rw(0, "a", when=("S", 1, 1)), B=rw(4, "b", when=("A", 1, 1))),
            "selector A",
        ),
        (
            _rows(S=SELECTOR, A=rw(0, "a", banked_by=("S", 2)), B=rw(4, "b", when=("A", 1, 1))),
            "selector A",
        ),
        (_rows(S=SELECTOR, A=rw(0, "a", when=("S", 1, 2))), "never there"),
        (_rows(S=SELECTOR, A=rw(0, "a", when=("S", 1, ()))), "never there"),
        (_rows(A=rw(0, "a", banked_by=("NONE", 2))), "selector NONE"),
        (
            _rows(S=SELECTOR, A=rw(0, "a", banked_by=("S", 2)), B=rw(4, "b", banked_by=("A", 2))),
            "selector A",
        ),
        (_rows(S=SELECTOR, A=rw(0, "a", banked_by=("S", 0))), "0 banks"),
        (_rows(S=SELECTOR, A=block(0, 8, "a", when=("S", 1, 1))), "a block is always there"),
    ],
)
def test_contradictions_fail_when_the_class_is_made(
    make: Callable[[], object], message: str
) -> None:
    with pytest.raises(RegisterTableError, match=message):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: rw(0, "a", colour="red"),
        lambda: bit(-1),
        lambda: bits(0, 0),
        lambda: bits(4, -2),
    ],
)
def test_rows_and_fields_that_cannot_be(make: Callable[[], object]) -> None:
    with pytest.raises(RegisterTableError):
        make()

"""The pair of 8259A, without a CPU."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vmlab.engine.soft.x86_64.pic import Pic, PicPair


def pic(icw4: int = 1, imr: int = 0) -> Pic:
    chip = Pic(0xF8)
    for odd, value in ((False, 0x11), (True, 0x20), (True, 4), (True, icw4), (True, imr)):
        chip.write(odd, value)
    return chip


def test_pic_priorities_and_eoi() -> None:
    chip = pic()
    for line in (5, 1, 3):
        chip.set_line(line, True)
    assert [chip.acknowledge(), chip.pending()] == [1, None]
    chip.set_line(0, True)
    assert chip.acknowledge() == 0  # a higher one nests
    chip.write(False, 0x20)
    assert chip.isr == 1 << 1
    assert chip.pending() is None
    chip.write(False, 0x61)  # specific EOI of 1
    assert [chip.acknowledge(), chip.isr] == [3, 1 << 3]
    chip.write(False, 0x20)
    assert chip.acknowledge() == 5


def test_pic_mask_reads_and_poll() -> None:
    chip = pic(imr=0x0A)
    chip.set_line(1, True)
    assert not chip.output
    chip.set_line(4, True)
    assert chip.read(True) == 0x0A
    assert chip.read(False) == 1 << 1 | 1 << 4
    chip.write(False, 0x0C)
    assert chip.read(False) == 0x84
    chip.write(False, 0x0B)
    assert chip.read(False) == 1 << 4


def test_pic_spurious_automatic_eoi_and_rotation() -> None:
    chip = pic()
    assert [chip.acknowledge(), chip.isr] == [7, 0]
    chip = pic(icw4=3)
    chip.set_line(2, True)
    assert [chip.acknowledge(), chip.isr] == [2, 0]
    chip = pic()
    chip.set_line(2, True)
    chip.acknowledge()
    chip.write(False, 0xA0)  # rotate on non-specific EOI: 2 is the lowest now
    chip.set_line(1, True)
    chip.set_line(3, True)
    assert chip.acknowledge() == 3
    chip.write(False, 0xC6)  # set priority: 7 is the highest
    chip.set_line(7, True)
    assert chip.pending() == 7


def test_pic_level_and_special_mask() -> None:
    chip = pic()
    chip.elcr = 1 << 5
    chip.set_line(5, True)
    chip.acknowledge()
    chip.write(False, 0x20)
    assert chip.acknowledge() == 5  # still up
    chip.set_line(6, True)
    assert chip.pending() is None
    chip.write(False, 0x68)
    chip.write(True, 1 << 5)
    assert chip.pending() == 6
    chip.set_line(5, False)
    assert not chip.irr >> 5 & 1


def test_pair_cascades() -> None:
    pair = PicPair()
    for base, values in ((0x20, (0x11, 0x20, 4, 1)), (0xA0, (0x11, 0x28, 2, 1))):
        pair.write(base, values[0])
        for value in values[1:]:
            pair.write(base + 1, value)
    pair.set_line(14, True)
    pair.set_line(9, True)
    assert pair.output
    assert pair.acknowledge() == 0x29
    pair.write(0xA0, 0x20)
    pair.write(0x20, 0x20)
    assert pair.acknowledge() == 0x2E
    pair.write(0xA1, 0xFF)
    assert pair.read(0xA1) == 0xFF
    pair.write(0x4D1, 0xFF)
    assert pair.read(0x4D1) == 0xDE


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("line"), st.integers(0, 15), st.booleans()),
            st.tuples(
                st.just("write"),
                st.sampled_from([0x20, 0x21, 0xA0, 0xA1, 0x4D0]),
                st.integers(0, 255),
            ),
            st.tuples(st.just("ack"), st.just(0), st.just(0)),
            st.tuples(st.just("read"), st.sampled_from([0x20, 0xA1, 0x4D1]), st.just(0)),
        ),
        max_size=60,
    )
)
def test_pair_takes_anything(program: list[tuple[str, int, int]]) -> None:
    pair = PicPair()
    for kind, where, value in program:
        if kind == "line":
            pair.set_line(where, bool(value))
        elif kind == "write":
            pair.write(where, value)
        elif kind == "ack":
            assert 0 <= pair.acknowledge() <= 0xFF
        else:
            assert 0 <= pair.read(where) <= 0xFF
        assert pair.master.irr >> 2 & 1 <= pair.slave.output

"""The text screen's registers, and what they make of the cells."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmlab.arch.x86_64.text_mode import CELLS, COLUMNS, MEMORY_SIZE, Shape
from vmlab.devices.pc.text_screen import TextScreen

INDEX, DATA, STATUS = 0, 1, 6


@pytest.fixture
def word() -> memoryview:
    return memoryview(bytearray(8)).cast("Q")


@pytest.fixture
def screen(word: memoryview) -> TextScreen:
    return TextScreen(word)


def shape(word: memoryview) -> Shape:
    found = Shape.unpacked(word[0])
    assert found is not None
    return found


def put(screen: TextScreen, index: int, value: int) -> None:
    screen.write(INDEX, 1, index)
    screen.write(DATA, 1, value)


def test_it_begins_as_firmware_leaves_it(screen: TextScreen, word: memoryview) -> None:
    assert shape(word) == Shape()
    assert (shape(word).rows, shape(word).place, shape(word).cursor_on) == (25, (0, 0), True)


def test_no_screen_is_no_shape() -> None:
    assert Shape.unpacked(0) is None
    assert Shape.unpacked(Shape(0, 0, 0, 0, 0).packed) == Shape(0, 0, 0, 0, 0)


def test_the_cursor_and_the_start(screen: TextScreen, word: memoryview) -> None:
    for index, value in ((0x0E, 0x01), (0x0F, 0x43), (0x0C, 0x00), (0x0D, 0x50)):
        put(screen, index, value)
    assert shape(word).place == divmod(0x143 - 0x50, COLUMNS)
    screen.write(INDEX, 1, 0x0F)
    assert screen.read(DATA, 1) == 0x43


def test_one_write_of_two_bytes_is_index_and_data(screen: TextScreen, word: memoryview) -> None:
    screen.write(INDEX, 2, 0x2A_0F)
    assert shape(word).cursor == 0x2A


@pytest.mark.parametrize(("start", "end", "on"), [(13, 14, True), (0x20, 14, False), (9, 8, False)])
def test_whether_the_cursor_is_on(
    screen: TextScreen, word: memoryview, start: int, end: int, on: bool
) -> None:
    put(screen, 0x0A, start)
    put(screen, 0x0B, end)
    assert shape(word).cursor_on is on


@pytest.mark.parametrize(("height", "rows"), [(0x4F, 25), (0x47, 50), (0x00, 50), (0xFF, 25)])
def test_the_rows(screen: TextScreen, word: memoryview, height: int, rows: int) -> None:
    put(screen, 0x09, height)
    assert shape(word).rows == rows


@pytest.mark.parametrize("index", [0x00, 0x08, 0x10, 0x13, 0x18, 0x29, 0xFF])
def test_the_rest_of_the_controller_is_absent(screen: TextScreen, index: int) -> None:
    put(screen, index, 0x55)
    assert screen.read(DATA, 1) == 0xFF


def test_who_waits_for_a_retrace_goes_on(screen: TextScreen) -> None:
    seen = [screen.read(STATUS, 1) for _ in range(8)]
    for mask in (0x01, 0x08):
        assert {bool(value & mask) for value in seen[:4]} == {True, False}
    assert seen[:4] == seen[4:]


def test_reset(screen: TextScreen, word: memoryview) -> None:
    put(screen, 0x09, 7)
    screen.reset()
    assert shape(word) == Shape()


def test_cells_begin_again_where_memory_ends() -> None:
    memory = b"".join(number.to_bytes(2, "little") for number in range(CELLS))
    cells = Shape(start=CELLS - COLUMNS).cells(memory)
    rows = [int.from_bytes(cells[at : at + 2], "little") for at in range(0, len(cells), 160)]
    assert rows[:3] == [CELLS - COLUMNS, 0, COLUMNS]


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255)), max_size=30))
def test_wild_registers_show_a_whole_screen(writes: list[tuple[int, int]]) -> None:
    word = memoryview(bytearray(8)).cast("Q")
    screen = TextScreen(word)
    for index, value in writes:
        put(screen, index, value)
    seen = shape(word)
    assert len(seen.cells(bytes(MEMORY_SIZE))) == seen.rows * COLUMNS * 2
    if seen.place is not None:
        assert 0 <= seen.place[0] < seen.rows
        assert 0 <= seen.place[1] < COLUMNS

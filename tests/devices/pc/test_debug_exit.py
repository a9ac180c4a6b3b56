"""The debug-exit port."""

from __future__ import annotations

import pytest

from vmlab.devices.pc.debug_exit import DebugExit


@pytest.mark.parametrize(
    ("offset", "size", "value", "code"),
    [
        (0, 4, 0, 0),
        (0, 4, 0xFFFF_FFFF, 0xFFFF_FFFF),
        (0, 2, 0x1234, 0x1234),
        (0, 1, 0x10, 0x10),
        (1, 1, 0x10, 0x1000),
    ],
)
def test_a_write_ends_the_run(offset: int, size: int, value: int, code: int) -> None:
    seen: list[int] = []
    DebugExit(seen.append).write(offset, size, value)
    assert seen == [code]


def test_a_narrow_write_after_a_wide_one_is_not_mixed_with_it() -> None:
    seen: list[int] = []
    port = DebugExit(seen.append)
    port.write(0, 4, 0x1234_5678)
    port.write(0, 1, 2)
    assert seen == [0x1234_5678, 2]


def test_reads_give_zero_and_end_nothing() -> None:
    port = DebugExit(lambda code: pytest.fail("ended"))
    assert [port.read(0, size) for size in (1, 2, 4)] == [0, 0, 0]
    assert port.peek() == {}

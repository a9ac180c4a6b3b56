"""The test finisher."""

from __future__ import annotations

import pytest

from vmlab.devices.riscv.finisher import Finisher
from vmlab.testing import DeviceHarness


@pytest.mark.parametrize(
    ("value", "called"),
    [
        (0x5555, [("off",)]),
        (0x7777, [("reset",)]),
        (0x0001_3333, [("fail", 1)]),
        (0xFFFF_3333, [("fail", 0xFFFF)]),
        (0x1234_5555, [("off",)]),
        (0, []),
        (0xFFFF_FFFF, []),
    ],
)
def test_how_a_run_ends(value: int, called: list[tuple[object, ...]]) -> None:
    calls: list[tuple[object, ...]] = []
    device = Finisher(
        lambda: calls.append(("off",)),
        lambda: calls.append(("reset",)),
        lambda code: calls.append(("fail", code)),
    )
    harness = DeviceHarness(device)
    try:
        device.write(0, 4, value)
        assert calls == called
        assert len(harness.mistakes) == (0 if called else 1)
    finally:
        harness.close()

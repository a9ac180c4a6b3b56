"""Every line of both engines, as an edge and as a level: no interrupt of a device is lost or doubled."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernels.conftest import build_guest
from vmlab import VM, Device, Registers
from vmlab.core.device import on_write
from vmlab.regs import ro, wo

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("no_leaks")]

LINES = [*range(5, 16), *range(17, 24)]
KNOCKS = 20


class Knocker(Device):
    """Wants to be served KNOCKS times, each as soon as it was served: before the end of the interrupt."""

    class regs(Registers):
        CAUSE = ro(0x0, "1: it wants to be served")
        ACK = wo(0x4, "serves it")
        START = wo(0x8, "begin")

    def __init__(self) -> None:
        self.left = 0

    def irq_level(self) -> bool:
        return bool(self.r.CAUSE)

    @on_write("START")
    def start(self, value: int) -> None:
        self.left, self.r.CAUSE = KNOCKS, 1

    @on_write("ACK")
    def serve(self, value: int) -> None:
        self.r.CAUSE = 0
        self.update()
        self.left -= 1
        self.r.CAUSE = int(self.left > 0)


@pytest.fixture(scope="module")
def knock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_guest("knock", tmp_path_factory.mktemp("knock"))


@pytest.mark.parametrize("flip", [0, 1], ids=["declared", "flipped"])
def test_each_knock_is_one_interrupt(engine: str, knock: Path, flip: int) -> None:
    """Also where a guest takes an edge for a level or a level for an edge, as devices drive true levels."""
    vm = VM(
        knock, engine=engine, memory="16M", cmdline=f"knocks={KNOCKS} flip={flip}", isolate=False
    )
    for line in LINES:
        vm.hot_add(Knocker(), irq=line)
    with vm:
        # some KVMs deliver a level once more when it has ended, which a driver passes over
        vm.console.expect("spurious: 0\n" if engine == "soft" else "spurious: ", timeout=60)
        assert [(row.line, row.raised) for row in vm.irqs if row.line in LINES] == [
            (line, KNOCKS) for line in LINES
        ]
        text = vm.console.text
    assert [f"line {line}: {KNOCKS}\n" in text for line in LINES] == [True] * len(LINES)


def test_a_level_waits_for_its_pin_to_be_unmasked(engine: str, knock: Path) -> None:
    vm = VM(
        knock, engine=engine, memory="16M", cmdline=f"knocks={KNOCKS} late=1 flip=1", isolate=False
    )
    for line in LINES[:11]:
        vm.hot_add(Knocker(), irq=line)
    with vm:
        vm.console.expect(f"line 15: {KNOCKS}\n", timeout=60)

"""The terminal's views at every width: what does not fit is left out, and no number is cut."""

from __future__ import annotations

import io
import re

import pytest
from msgspec.structs import replace
from rich.console import Console

from tests.vms import Dice, monitor
from vmlab import VM
from vmlab.cli.live import report, screen
from vmlab.vm.rates import Sample, Sampler
from vmlab.vm.views import Traps

BIG = 1_234_567


def busy(vm: VM) -> tuple[Sample, Sampler]:
    """A look at a machine whose devices have seven-digit counts."""
    sampler = Sampler(vm.inspection)
    sample = sampler.sample()
    counts = {
        id: replace(one, reads=BIG + at, writes=2 * BIG + at, bytes=3 * BIG + at)
        for at, (id, one) in enumerate(sample.traps.items())
    }
    return sample._replace(traps=Traps(counts, (BIG, BIG))), sampler


def drawn(vm: VM, width: int, height: int) -> str:
    console = Console(width=width, height=height, file=io.StringIO(), force_terminal=True)
    sample, sampler = busy(vm)
    console.print(screen(vm, sample, sampler, console))
    assert isinstance(console.file, io.StringIO)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())


@pytest.fixture(scope="module")
def vm() -> VM:  # type: ignore[misc]
    with monitor("auto", devices={"a-device-with-a-long-name": Dice()}) as vm:
        yield vm


@pytest.mark.parametrize("width", [60, 61, 66, 72, 80, 90, 99, 100, 110, 120, 131, 160])
@pytest.mark.parametrize("height", [20, 24, 40])
def test_no_digit_is_cut(vm: VM, width: int, height: int) -> None:
    text = drawn(vm, width, height)
    assert "…" not in text, text
    assert all(len(line) <= width for line in text.splitlines())
    assert "1,234,567" in text
    numbers = re.findall(r"(?<![\da-fx_])\d[\d,]{5,}", text)
    assert len(numbers) > 6
    for number in numbers:
        assert re.fullmatch(r"\d,\d{3},\d{3}", number), (number, text)
    # what somebody plugged in is on screen, if in two lines
    assert "a-device" in text, text
    assert "(unmapped)" in text
    assert "irq lines" in text
    if width == 160:
        assert "0xd000_0000" in text
        assert "address map" in text


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (20, 5), (40, 12), (59, 10)])
def test_smaller_ones_do_not_raise(vm: VM, size: tuple[int, int]) -> None:
    drawn(vm, *size)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_report(vm: VM, width: int) -> None:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    report(vm, console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "…" not in text
    for id in vm.devices:
        assert id[:8] in text, id

"""The same images under QEMU: hello, irqlab and smp from the first byte to the exit status."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernels.qemu import run

pytestmark = pytest.mark.qemu


@pytest.fixture(params=["tcg", pytest.param("kvm", marks=pytest.mark.kvm)])
def accel(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_hello(images: Path, accel: str) -> None:
    assert run(images / "hello.elf", accel=accel) == (1, "Hello from the guest!\n")


@pytest.mark.parametrize(
    ("cmdline", "status"),
    [("exit=3", 7), ("a=b exit=0x10 quiet", 33), ("noexit=3", 1), ("exit=", 1), ("exit=2x", 1)],
)
def test_hello_shows_its_command_line_and_exits_as_told(
    images: Path, cmdline: str, status: int
) -> None:
    assert run(images / "hello.elf", cmdline=cmdline) == (
        status,
        f"Hello from the guest!\ncmdline: {cmdline}\n",
    )


@pytest.mark.parametrize(
    ("cmdline", "period", "ticks"),
    [("", 10000, 10), ("ticks=3 period=1000", 1000, 3), ("ticks=1 period=120000", 120000, 1)],
)
def test_irqlab(images: Path, accel: str, cmdline: str, period: int, ticks: int) -> None:
    lines = [f"irqlab: 8254 timer, a tick every {period} us"]
    lines += [f"tick {n}" for n in range(1, ticks + 1)]
    lines += [f"irqlab: {ticks} interrupt{'s' * (ticks > 1)}"]
    status, output = run(images / "irqlab.elf", accel=accel, cmdline=cmdline)
    assert output.splitlines() == lines
    assert status == 1


def test_irqlab_without_ticks(images: Path) -> None:
    status, output = run(images / "irqlab.elf", cmdline="ticks=0 exit=1")
    assert output.splitlines()[1:] == ["irqlab: 0 interrupts"]
    assert status == 3


@pytest.mark.parametrize("cmdline", ["cpus=2", ""])
def test_smp(images: Path, accel: str, cmdline: str) -> None:
    status, output = run(images / "smp.elf", accel=accel, cpus=2, cmdline=cmdline)
    assert output.splitlines() == ["cpu 0 up", "cpu 1 up", "smp: 2 cpus"]
    assert status == 1


@pytest.mark.parametrize("cmdline", ["cpus=1", ""])
def test_smp_alone(images: Path, accel: str, cmdline: str) -> None:
    status, output = run(images / "smp.elf", accel=accel, cmdline=cmdline)
    assert output.splitlines() == ["cpu 0 up", "smp: 1 cpu"]
    assert status == 1


def test_smp_gives_up_on_a_missing_cpu(images: Path) -> None:
    status, output = run(images / "smp.elf", cpus=2, cmdline="cpus=3")
    assert output.splitlines() == ["cpu 0 up", "cpu 1 up", "smp: 2 cpus, 3 expected"]
    assert status == 3

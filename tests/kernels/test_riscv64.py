"""The bundled kernels on RISC-V's "virt", vmlab's and QEMU's: the same programs, the same numbers."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernels.conftest import GCC, ORIGINS, SOURCE, Built, build, build_guest
from tests.kernels.counting import counts
from tests.support import IMAGES, require_module, require_program
from tests.vms import PATIENCE, PROMPT, Counter, run
from tests.waiting import until
from vmlab import VM, kernels
from vmlab.arch.riscv64 import platform
from vmlab.devices.timer import Timer
from vmlab.errors import KernelError
from vmlab.virtio import Disk, Rng

pytestmark = pytest.mark.usefixtures("unicorn")

NAMES = ["hello", "irqlab", "monitor", "smp"]
HELLO = "Hello from the guest!\n"
COMPILER = GCC["riscv64"]
#: bytes that a kernel may be
LIMIT = 64 << 10


@pytest.fixture(scope="module")
def unicorn() -> None:
    require_module("unicorn")


@pytest.fixture(scope="session", params=ORIGINS)
def images(request: pytest.FixtureRequest, built: Built) -> Path:
    return built(request.param, "riscv64")


def finished(kernel: str | Path, **more: Any) -> tuple[str, int, str]:
    """(what it said, its exit status, why it ended)"""
    with VM(kernel, arch="riscv64", **more) as vm:
        ended = vm.wait(PATIENCE)
        assert ended is not None, vm.console.text
        return vm.console.text, ended.code, ended.reason


def test_there_is_one_of_each(images: Path) -> None:
    assert sorted(path.stem for path in images.glob("*.elf")) == NAMES == kernels.names("riscv64")
    assert "riscv64" in kernels.arches()


def test_small_and_where_a_firmware_expects_them(images: Path) -> None:
    elffile = require_module("elftools.elf.elffile")
    for name in NAMES:
        path = images / f"{name}.elf"
        assert path.stat().st_size < LIMIT
        assert str(SOURCE).encode() not in path.read_bytes()
        with path.open("rb") as file:
            elf = elffile.ELFFile(file)
            assert (elf["e_machine"], elf["e_type"]) == ("EM_RISCV", "ET_EXEC")
            loads = [one for one in elf.iter_segments() if one["p_type"] == "PT_LOAD"]
            assert elf["e_entry"] == loads[0]["p_paddr"] == platform.SBI_ENTRY
            sections = {section.name for section in elf.iter_sections()}
        assert not {name for name in sections if name.startswith((".debug", ".comment", ".riscv"))}


def test_same_source_same_bytes_wherever_it_lies(tmp_path: Path, built: Built) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(SOURCE, moved, ignore=shutil.ignore_patterns("build", "images"))
    here = built("gcc", "riscv64")
    there = build(COMPILER, tmp_path / "b", moved, "riscv64")
    for name in NAMES:
        assert (here / f"{name}.elf").read_bytes() == (there / f"{name}.elf").read_bytes()


def test_each_build_of_each_runs(images: Path) -> None:
    assert finished(images / "hello.elf") == (HELLO, 0, "poweroff")
    assert "irqlab: 3 interrupts" in finished(images / "irqlab.elf", cmdline="ticks=3")[0]
    assert "smp: 3 cpus" in finished(images / "smp.elf", cpus=3, cmdline="cpus=3")[0]
    with VM(images / "monitor.elf") as vm:
        vm.console.expect(PROMPT, PATIENCE)
        assert vm.console.run("rng 1", timeout=PATIENCE) == "rng: no such device"


@pytest.mark.parametrize(
    ("cmdline", "code"),
    [("exit=3 a=b", 3), ("exit=0xffff", 0xFFFF), ("exit=0x10000", 0xFFFF), ("exit=2x", 0)],
)
def test_hello(cmdline: str, code: int) -> None:
    text = f"{HELLO}cmdline: {cmdline}\n"
    assert finished("hello", cmdline=cmdline) == (text, code, "fail" if code else "poweroff")


def test_irqlab() -> None:
    text, code, _ = finished("irqlab", cmdline="ticks=3 period=20000 exit=1")
    lines = ["irqlab: teaching timer, a tick every 20000 us", "tick 1", "tick 2", "tick 3"]
    assert text.splitlines() == [*lines, "irqlab: 3 interrupts"]
    assert code == 1


@pytest.mark.parametrize("cmdline", ["cpus=4", ""])
def test_smp(cmdline: str) -> None:
    text, code, _ = finished("smp", cpus=4, cmdline=cmdline)
    assert text.splitlines() == [f"cpu {n} up" for n in range(4)] + ["smp: 4 cpus"]
    assert code == 0


def test_smp_gives_up_on_a_missing_cpu() -> None:
    text, code, _ = finished("smp", cpus=2, cmdline="cpus=3")
    assert text.splitlines() == ["cpu 0 up", "cpu 1 up", "smp: 2 cpus, 3 expected"]
    assert code == 1


@pytest.fixture
def vm(unicorn: None) -> Iterator[VM]:
    with VM("monitor", arch="riscv64", cpus=2, devices=[Rng(seed=1)]) as made:
        made.console.expect(PROMPT, PATIENCE)
        yield made


Ask = Callable[[str], str]


@pytest.fixture
def ask(vm: VM) -> Ask:
    return lambda words: vm.console.run(words, timeout=PATIENCE)


def test_the_monitor_knows_its_machine(ask: Ask) -> None:
    assert re.search(r"^0x80000000-0x87ffffff +ram$", ask("regions"), re.MULTILINE)
    found = ask("devices").splitlines()
    assert found[0] == "0x10000000  irq 10 serial, a 16550a"
    assert found[-2:] == [
        "0x10001000  irq 1  slot 0: rng, driver ok",
        "1 of 64 slots in use",
    ]
    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", ask("clock"))
    assert re.fullmatch(r"([0-9a-f]{2} ?){8}", ask("rng 8"))
    assert "or end with VALUE" in ask("help exit")


def test_the_monitor_shows_csrs_and_calls_its_firmware(ask: Ask) -> None:
    registers = ask("regs")
    assert re.search(r"stvec +0x802", registers)
    assert "satp  0x0 " in registers
    assert ask("sbi").startswith("sbi 2.0, ")
    assert ask("sbi").endswith(": time ipi rfence hsm srst dbcn")
    assert ask("sbi 0x10 0") == "sbi: error 0, value 0x2000000"
    assert ask("sbi 0x48534d 2 1") == "sbi: error 0, value 0x1", "hart 1 is stopped"
    assert ask("sbi 0x777 0").startswith("sbi: error -2")
    assert ask("sbi 1x") == "sbi: extension '1x' is not a number"


def test_the_monitor_survives_its_faults(ask: Ask) -> None:
    assert ask("fault access").startswith("fault: load access fault, scause 5, sepc 0x802")
    assert ask("fault undefined").startswith("fault: illegal instruction, scause 2, sepc 0x802")
    assert ask("fault breakpoint").startswith("fault: breakpoint, scause 3, sepc 0x802")
    assert ask("fault") == "fault: access, undefined or breakpoint?"
    assert ask("timer 1000") == "timer: teaching timer, tick after 1000 us"


def test_cpus_start_over_and_over(ask: Ask) -> None:
    for _ in range(5):
        assert ask("smp 2").splitlines() == ["cpu 0 up", "cpu 1 up", "smp: 2 cpus"]


def test_accesses_of_every_width_are_seen_as_they_are(vm: VM, ask: Ask) -> None:
    with vm.trace(device="timer0") as trace:
        for width, count in ((4, 1), (2, 2), (1, 4), (8, 1)):
            ask(f"peek {platform.TIMER_BASE:#x} {width} {count}")
        ask(f"poke {platform.TIMER_BASE + 8:#x} 5000")
    seen = [((event.address or 0) & 0xFFF, event.size, event.write) for event in trace.events]
    assert seen == [
        (0, 4, False),
        *[(at, 2, False) for at in (0, 2)],
        *[(at, 1, False) for at in range(4)],
        (0, 8, False),
        (8, 4, True),
    ]


def test_hot_plug(vm: VM, ask: Ask) -> None:
    added = vm.hot_add(Disk(size="1M"), "d")
    assert (added.base, added.irq) == (platform.WINDOWS_BASE + 0x1000, 2)
    until(lambda: vm.devices["d"].state == "driver_ok", "a driver")
    assert ask("blk write 0 hello") == "blk: written"
    assert "68 65 6c 6c 6f" in ask("blk read 0")
    vm.hot_add(Timer(), "t")
    until(lambda: "slot 2: device" in ask("devices"), "it is seen")
    vm.hot_remove("d")
    until(lambda: "slot 1" not in ask("devices"), "it is gone")
    vm.hot_add(Disk(size="2M"), "e")
    until(lambda: vm.devices["e"].state == "driver_ok", "another in its place")
    assert "4096 sectors" in ask("blk")


def test_a_device_at_an_address_and_a_line_of_its_own(vm: VM, ask: Ask) -> None:
    vm.hot_add(Rng(seed=2), "far", at=0x1000_5000, irq=5)
    until(lambda: vm.devices["far"].state == "driver_ok", "a driver")
    ask("rng 8 1")
    assert re.search(r"^  5 +1  rng at 0x10005000$", ask("irqs"), re.MULTILINE)


def test_each_interrupt_of_a_device_is_counted(vm: VM, ask: Ask) -> None:
    entry = vm.hot_add(Counter(), "c")
    for _ in range(20):
        ask(f"poke {entry.base + 4:#x} 1")
        ask(f"poke {entry.base + 4:#x} 0")
    assert re.search(rf"^ +{entry.irq} +20 ", ask("irqs"), re.MULTILINE)
    assert {row.device: row.raised for row in vm.irqs}["c"] == 20


def test_typed_and_pasted_text_arrives(vm: VM) -> None:
    vm.console.send("cmdline\n" * 200)
    for _ in range(200):
        vm.console.expect("cmdline\n", PATIENCE)


def test_pause_step_and_look(vm: VM) -> None:
    vm.pause()
    registers = vm.cpus[0].regs
    assert registers["pc"] >= platform.SBI_ENTRY
    assert registers["x4"] == 0, "tp holds the number of the hart"
    vm.step(10)
    vm.resume()
    vm.console.run("cmdline", timeout=PATIENCE)


def test_reset_and_the_ends(vm: VM, ask: Ask) -> None:
    vm.reset()
    vm.console.expect(PROMPT, PATIENCE)
    vm.console.send("reset\n")
    vm.console.expect("vmlab monitor", PATIENCE)
    vm.console.expect(PROMPT, PATIENCE)
    assert ask("irqs")
    vm.console.send("exit 5\n")
    ended = vm.wait(PATIENCE)
    assert ended is not None
    assert (ended.code, ended.reason) == (5, "fail")
    assert vm.start().console.expect(PROMPT, PATIENCE)


#: what irqlab does to its devices: as many accesses of the timer as on the other machines, and two a letter
IRQLAB = {"timer0": 14, "serial": 204}


@pytest.mark.parametrize("cpus", [1, 2])
def test_every_run_counts_alike(cpus: int) -> None:
    options = {"arch": "riscv64", "cpus": cpus, "cmdline": "ticks=5 period=20000"}
    first = counts("irqlab", options)
    assert first == counts("irqlab", options) == counts("irqlab", options)
    accesses = {
        id: found["reads"] + found["writes"]
        for id, found in first["devices"].items()
        if id in IRQLAB
    }
    assert accesses == IRQLAB
    assert first["raised"][platform.TIMER_IRQ] == 5


@pytest.mark.parametrize("name", ["hello", "irqlab", "smp"])
def test_devices_are_accessed_as_on_arm64(name: str) -> None:
    """Where the device is the same: the teaching timer, and as many bytes are sent."""
    found = []
    for arch, sent in (("arm64", "DR"), ("riscv64", "THR")):
        with VM(name, arch=arch, engine="soft", cpus=2) as vm:
            assert vm.wait(PATIENCE) is not None
            timer = vm.traps["timer0"].registers.items()
            letters = vm.traps["serial"].registers[sent].writes
            raised = {row.device: row.raised for row in vm.irqs}["timer0"]
            accesses = {name: (one.reads, one.writes) for name, one in timer}
            found.append((accesses, letters, raised, vm.console.text))
    assert found[0] == found[1]


def test_the_command() -> None:
    done = run("run", "hello", "--arch", "riscv64", "--cmdline", "exit=3")
    assert done.returncode == 3, done.stderr
    assert done.stdout.startswith(HELLO.encode())
    assert run("run", IMAGES / "riscv64/hello.elf").stdout == HELLO.encode()
    assert b"made for riscv" in run("run", IMAGES / "riscv64/hello.elf", "--arch", "arm64").stderr


def test_bad_input() -> None:
    with pytest.raises(KernelError, match="made for riscv"):
        VM(IMAGES / "riscv64/hello.elf", arch="x86_64")
    with pytest.raises(KernelError, match="no such file"):
        VM("helo", arch="riscv64")


@pytest.mark.parametrize("cpus", [1, 2])
def test_each_interrupt_is_counted_once(tmp_path: Path, cpus: int) -> None:
    """Of the harts' own timers, on each hart, and of a device beside them."""
    kernel = build_guest("ticks", tmp_path, COMPILER, "riscv64")
    with VM(kernel, cpus=cpus, cmdline=f"cpus={cpus} ticks=2000 interval=2000 period=200") as vm:
        assert vm.wait(60) is not None
        lines = [f"hart {n}: 2000, early 0" for n in range(cpus)]
        lines.append("teaching timer: 2000, 2000 interrupts")
        assert vm.console.text.splitlines() == lines
        assert {row.device: row.raised for row in vm.irqs}["timer0"] == 2000


@pytest.mark.parametrize("width", [1, 8])
def test_a_kernel_that_fills_its_memory_first(tmp_path: Path, width: int) -> None:
    kernel = build_guest("fill", tmp_path, COMPILER, "riscv64")
    with VM(kernel, memory="256M", cmdline=f"mib=128 width={width}") as vm:
        vm.console.expect(f"filled: {5 * (128 << 20) // 4096}\n", 60)


# --- the same images on QEMU's machine, with its OpenSBI ------------------------------------------

QEMU = "qemu-system-riscv64"


def on_qemu(image: Path, *more: str, typed: str = "") -> tuple[str, int]:
    """(what it said behind the firmware's banner, QEMU's exit status)"""
    command = [require_program(QEMU), "-M", "virt", "-kernel", str(image), "-nographic", *more]
    done = subprocess.run(
        command, input=typed.encode(), capture_output=True, timeout=60, check=False
    )
    banner = re.split(r"MEDELEG +: 0x[0-9a-f]+\r?\n", done.stdout.decode(errors="replace"))
    assert len(banner) == 2, done.stdout + done.stderr
    return banner[1], done.returncode


@pytest.mark.qemu
@pytest.mark.parametrize("cmdline", ["", "exit=3"])
def test_hello_says_the_same_in_qemu(images: Path, cmdline: str) -> None:
    text, code, _ = finished(images / "hello.elf", cmdline=cmdline)
    assert on_qemu(images / "hello.elf", "-append", cmdline) == (text, code)


@pytest.mark.qemu
def test_smp_says_the_same_in_qemu(images: Path) -> None:
    """Whichever hart its firmware takes for the first."""
    text, code, _ = finished(images / "smp.elf", cmdline="cpus=4", cpus=4)
    for _ in range(3):
        assert on_qemu(images / "smp.elf", "-append", "cpus=4", "-smp", "4") == (text, code)


@pytest.mark.qemu
def test_irqlab_takes_the_firmware_s_timer_in_qemu(images: Path) -> None:
    text, code = on_qemu(images / "irqlab.elf", "-append", "ticks=20 period=1000")
    ticks = [f"tick {n}" for n in range(1, 21)]
    assert text.splitlines() == [
        "irqlab: sbi timer, a tick every 1000 us",
        *ticks,
        "irqlab: 20 interrupts",
    ]
    assert code == 0

"""The bundled kernels on the arm64 machine: the same programs, the same numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernels.conftest import ORIGINS, Built
from tests.kernels.counting import counts
from tests.support import IMAGES, require_module, require_program
from tests.vms import PATIENCE, PROMPT, Counter, command, run
from tests.waiting import until
from vmlab import VM, kernels
from vmlab.arch import host as arch_host
from vmlab.arch.arm64 import platform
from vmlab.devices.timer import Timer
from vmlab.errors import ConfigError, EngineUnavailable, KernelError, StateError
from vmlab.virtio import Disk, Rng

NAMES = ["hello", "irqlab", "monitor", "smp"]


KVM = pytest.mark.arm64_kvm
#: each engine, and each version of the interrupt controller that it has (QEMU's GICv3 is none for a 2)
MACHINES = pytest.mark.parametrize(
    "machine",
    [("soft", 2), ("soft", 3), pytest.param(("kvm", 3), marks=KVM)],
    ids=["soft-gicv2", "soft-gicv3", "kvm-gicv3"],
)
Machine = tuple[str, int]


def options(machine: Machine) -> dict[str, Any]:
    engine, gic = machine
    if engine == "soft":
        require_module("unicorn")
    return {"arch": "arm64", "engine": engine, "gic": gic}


@pytest.fixture(scope="session", params=ORIGINS)
def images(request: pytest.FixtureRequest, built: Built) -> Path:
    return built(request.param, "arm64")


def finished(
    kernel: str | Path, machine: Machine = ("soft", 2), **more: Any
) -> tuple[str, int, str]:
    """(what it said, its exit status, why it ended)"""
    with VM(kernel, **options(machine), **more) as vm:
        ended = vm.wait(PATIENCE)
        assert ended is not None, vm.console.text
        return vm.console.text, ended.code, ended.reason


def test_there_is_one_of_each(images: Path) -> None:
    assert sorted(path.stem for path in images.glob("*.elf")) == NAMES == kernels.names("arm64")


def test_each_build_of_each_runs(images: Path) -> None:
    assert finished(images / "hello.elf") == ("Hello from the guest!\n", 0, "poweroff")
    assert "irqlab: 3 interrupts" in finished(images / "irqlab.elf", cmdline="ticks=3")[0]
    assert "smp: 3 cpus" in finished(images / "smp.elf", cpus=3, cmdline="cpus=3")[0]
    with VM(images / "monitor.elf", engine="soft") as vm:
        vm.console.expect(PROMPT, PATIENCE)


@MACHINES
def test_hello(machine: Machine) -> None:
    text = "Hello from the guest!\n"
    assert finished("hello", machine) == (text, 0, "poweroff")
    assert finished("hello", machine, cmdline="exit=3 a=b") == (
        f"{text}cmdline: exit=3 a=b\n",
        7,
        "debug-exit",
    )


@MACHINES
def test_irqlab(machine: Machine) -> None:
    text, code, _ = finished("irqlab", machine, cmdline="ticks=3 period=20000 exit=1")
    lines = ["irqlab: teaching timer, a tick every 20000 us", "tick 1", "tick 2", "tick 3"]
    assert text.splitlines() == [*lines, "irqlab: 3 interrupts"]
    assert code == 3


@MACHINES
@pytest.mark.parametrize("cmdline", ["cpus=4", ""])
def test_smp(machine: Machine, cmdline: str) -> None:
    text, code, _ = finished("smp", machine, cpus=4, cmdline=cmdline)
    assert text.splitlines() == [f"cpu {n} up" for n in range(4)] + ["smp: 4 cpus"]
    assert code == 0


def test_smp_gives_up_on_a_missing_cpu() -> None:
    text, code, _ = finished("smp", cpus=2, cmdline="cpus=3")
    assert text.splitlines() == ["cpu 0 up", "cpu 1 up", "smp: 2 cpus, 3 expected"]
    assert code == 3


@pytest.fixture(
    params=[("soft", 2), ("soft", 3), pytest.param(("kvm", 3), marks=KVM)],
    ids=["soft-gicv2", "soft-gicv3", "kvm-gicv3"],
)
def vm(request: pytest.FixtureRequest) -> Iterator[VM]:
    with VM("monitor", **options(request.param), cpus=2, devices=[Rng(seed=1)]) as made:
        made.console.expect(PROMPT, PATIENCE)
        yield made


Ask = Callable[[str], str]


@pytest.fixture
def ask(vm: VM) -> Ask:
    return lambda words: vm.console.run(words, timeout=PATIENCE)


def test_the_monitor_knows_its_machine(vm: VM, ask: Ask) -> None:
    assert re.search(r"^0x80000000-0x83ffffff +ram$", ask("regions"), re.MULTILINE)
    found = ask("devices").splitlines()
    assert found[0] == "0x0a001000  irq 32 serial, a pl011"
    assert found[-2:] == [
        "0x0a004000  irq 35 slot 3: rng, driver ok",
        "1 of 64 slots in use",
    ]
    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", ask("clock"))
    assert "sctlr" in ask("regs")
    assert re.fullmatch(r"([0-9a-f]{2} ?){8}", ask("rng 8"))


def test_the_monitor_survives_its_faults(ask: Ask) -> None:
    assert ask("fault page").startswith("fault: data abort, esr 0x96")
    assert ask("fault page").endswith("far 0x123456789000")
    assert ask("fault undefined").startswith("fault: undefined instruction")
    assert ask("fault breakpoint").startswith("fault: breakpoint")
    assert ask("fault") == "fault: page, undefined or breakpoint?"
    assert ask("timer 1000") == "timer: teaching timer, tick after 1000 us"


def test_cpus_start_over_and_over(ask: Ask) -> None:
    for _ in range(5):
        assert ask("smp 2").splitlines() == ["cpu 0 up", "cpu 1 up", "smp: 2 cpus"]


def test_accesses_of_every_width_are_seen_as_they_are(vm: VM, ask: Ask) -> None:
    before = vm.traps["timer0"].reads
    with vm.trace(device="timer0") as trace:
        ask("peek 0x9000000 4")
        ask("peek 0x9000000 2 2")
        ask("peek 0x9000000 1 4")
        ask("poke 0x9000008 5000")
    seen = [((event.address or 0) & 0xFFF, event.size, event.write) for event in trace.events]
    assert seen == [
        (0, 4, False),
        *[(at, 2, False) for at in (0, 2)],
        *[(at, 1, False) for at in range(4)],
        (8, 4, True),
    ]
    assert vm.traps["timer0"].reads == before + 7


def test_hot_plug(vm: VM, ask: Ask) -> None:
    added = vm.hot_add(Disk(size="1M"), "d")
    assert added.base == platform.WINDOWS_BASE + 0x5000
    until(lambda: vm.devices["d"].state == "driver_ok", "a driver")
    assert "slot 4: blk" in ask("devices")
    vm.hot_add(Timer(), "t")
    until(lambda: "slot 5: device" in ask("devices"), "it is seen")
    vm.hot_remove("d")
    until(lambda: "slot 4" not in ask("devices"), "it is gone")
    with pytest.raises(ConfigError, match="'serial' is part of the machine"):
        vm.hot_remove("serial")


def test_a_device_that_only_pulses_is_heard(vm: VM, ask: Ask) -> None:
    """Edges: a level of no length would be nothing to a controller that waits for one."""
    entry = vm.hot_add(Counter(), "c")
    irq = entry.irq
    if irq is None:
        pytest.skip("it has no line")
    ask(f"peek {entry.base:#x}")
    assert {row.device: row.raised for row in vm.irqs}["c"] >= 0


def test_typed_and_pasted_text_arrives(vm: VM) -> None:
    # more than any FIFO takes; each line costs the box a second
    lines = 60
    vm.console.send("cmdline\n" * lines)
    for _ in range(lines):
        vm.console.expect("cmdline\n", PATIENCE)


def test_pause_step_and_look(vm: VM) -> None:
    vm.pause()
    registers = vm.cpus[0].regs
    assert registers["pc"] >= platform.RAM_BASE
    assert list(registers)[:2] == ["x0", "x1"]
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
    assert ended.code == 11
    assert vm.start().console.expect(PROMPT, PATIENCE)


def test_the_map_and_the_lines(vm: VM) -> None:
    names = {row.name: (row.start, row.end) for row in vm.address_map}
    assert names["ram"] == (0x8000_0000, 0x83FF_FFFF)
    assert names["serial"] == (0x0A00_1000, 0x0A00_1FFF)
    assert names["gic"] == (platform.GIC_START, 0x09FF_FFFF)
    lines = {row.device: row.line for row in vm.irqs}
    assert {"serial": 32, "rtc": 33, "gpio": 34, "rng0": 35, "timer0": 160}.items() <= lines.items()


#: what that program does to its devices; the same everywhere
IRQLAB = {"timer0": 14, "serial": 204}


@MACHINES
def test_every_run_counts_alike(machine: Machine) -> None:
    """On either engine: what is counted here is the same number."""
    made = options(machine) | {"cmdline": "ticks=5 period=20000"}
    first = counts("irqlab", made)
    assert first == counts("irqlab", made)
    accesses = {
        id: found["reads"] + found["writes"]
        for id, found in first["devices"].items()
        if id in IRQLAB
    }
    assert accesses == IRQLAB
    assert first["raised"][160] == 5


@pytest.mark.parametrize("name", ["hello", "irqlab", "smp"])
def test_devices_are_accessed_alike_on_both_machines(engine: str, name: str) -> None:
    """Where the device is the same: the teaching timer, and as many bytes are sent."""
    found = []
    for arch, serial, sent in (("x86_64", "com1", "THR"), ("arm64", "serial", "DR")):
        with VM(name, arch=arch, engine=engine if arch == "x86_64" else "soft", cpus=2) as vm:
            assert vm.wait(PATIENCE) is not None
            traps = vm.traps
            timer = {
                name: (one.reads, one.writes) for name, one in traps["timer0"].registers.items()
            }
            letters = traps[serial].registers[sent].writes
            raised = {row.device: row.raised for row in vm.irqs}["timer0"]
            found.append((timer, letters, raised, vm.console.text))
    assert found[0] == found[1]


def test_the_command(tmp_path: Path) -> None:
    done = run("run", "hello", "--arch", "arm64", "--stats", "-")
    assert done.returncode == 0, done.stderr
    assert b'"serial"' in done.stdout
    image = IMAGES / "arm64/hello.elf"
    assert run("run", image).stdout == b"Hello from the guest!\n"
    assert b"arch='x86_64'" in run("run", IMAGES / "hello.elf", "--arch", "arm64").stderr
    assert command("run", "hello", "--gic", "3")
    assert b"has neither GIC nor device tree" in run("run", "hello", "--gic", "3").stderr


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="made for arm64; this machine is x86_64; arch='arm64'"):
        VM(IMAGES / "arm64/hello.elf", arch="x86_64")
    with pytest.raises(KernelError, match=r"unknown bundled kernel for arm64|no such file"):
        VM("helo", arch="arm64")
    for gic in (1, 4, "3", 2.0, True):
        with pytest.raises(ConfigError, match="there are the versions 2 and 3"):
            VM("hello", arch="arm64", gic=gic)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="9 CPUs"):
        VM("hello", arch="arm64", cpus=9)
    if arch_host() != "arm64":
        with pytest.raises(EngineUnavailable, match="KVM runs guests of the host's architecture"):
            VM("hello", arch="arm64", engine="kvm").start()
    with VM("monitor", arch="arm64") as vm:
        for at, words in (
            (0x8000_0000, "is RAM"),
            (0x0A00_1000, "overlap"),
            (0x4000_0000, "end below"),
        ):
            with pytest.raises(Exception, match=words):
                vm.hot_add(Timer(), at=at)
        with pytest.raises(ConfigError, match="line 31: devices have the lines 32 to 159"):
            vm.hot_add(Timer(), irq=31)
        with pytest.raises(
            ConfigError, match=r"line 160 belongs to 'timer0'|devices have the lines"
        ):
            vm.hot_add(Timer(), irq=160)


def test_a_device_tree_of_ones_own(tmp_path: Path) -> None:
    dtc = require_program("dtc")
    import subprocess

    file = tmp_path / "own.dtb"
    for source, words in (
        (b"not a tree at all, of more than forty bytes..", "compile a source with dtc"),
        (b"", "is empty"),
    ):
        file.write_bytes(source)
        with pytest.raises((ConfigError, KernelError), match=words):
            VM("hello", arch="arm64", dtb=file)
    with pytest.raises(KernelError, match="no such file"):
        VM("hello", arch="arm64", dtb=tmp_path / "none")
    source = (
        b"/dts-v1/; / { #address-cells=<2>; #size-cells=<2>;"
        b" memory@80000000 { reg = <0 0x80000000 0 0x100000>; }; };"
    )
    subprocess.run([dtc, "-q", "-O", "dtb", "-o", file], input=source, check=True)
    with VM("monitor", arch="arm64", dtb=file, cmdline="from here") as vm:
        vm.console.expect(PROMPT, PATIENCE)
        assert vm.console.run("cmdline") == "from here"
        assert re.search(r"^0x80000000-0x800fffff +ram$", vm.console.run("regions"), re.MULTILINE)
    data = file.read_bytes()
    file.write_bytes(data[:-4])
    with pytest.raises(ConfigError, match=r"own\.dtb: cut"):
        VM("hello", arch="arm64", dtb=file)


def test_a_button_that_nobody_hears() -> None:
    with VM("monitor", arch="arm64") as vm:
        vm.console.expect(PROMPT, PATIENCE)
        with pytest.raises(StateError, match=r"still runs 0\.2 s after its power button"):
            vm.shutdown(0.2)
        assert vm.devices["gpio"].peek("MIS") == 0

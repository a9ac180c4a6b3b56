"""Whatever stands above the seam works with an architecture that it has never heard of."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from rich.console import Console as Rich

from tests.arch import made_up
from tests.arch.made_up import ARCH, HOTPLUG, RAM, SERIAL, WINDOWS
from tests.support import require_module
from tests.vms import Dice
from vmlab import VM, arch, engine
from vmlab.arch.api import OnlyWindows
from vmlab.cli import live
from vmlab.core.manager import DeviceType, MMIODeviceManager
from vmlab.errors import ConfigError, EngineUnavailable, IrqsExhausted
from vmlab.vm.rates import Sampler

LINES = [
    *(f"write {SERIAL:#x} 1 {byte:#x}" for byte in b"Hi\n"),
    f"read {HOTPLUG:#x} 4",
    "read 0x30000000 4",
]


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(arch.HOMES, "toy", made_up.__name__)
    monkeypatch.setitem(
        engine.ENGINES, "soft", engine.Kind(made_up.__name__, {"toy": f"{made_up.__name__}:Paper"})
    )
    monkeypatch.delenv("VMLAB_ENGINE", raising=False)


@pytest.fixture
def vm(toy: None, tmp_path: Path) -> Iterator[VM]:
    kernel = tmp_path / "hi.toy"
    kernel.write_text("\n".join(LINES))
    with VM(kernel, arch="toy", isolate=False, memory="1M") as made:
        made.console.expect("Hi\n")
        made.wait_until(lambda v: v.traps.unmapped == (1, 0))
        yield made


def test_the_manager() -> None:
    manager = MMIODeviceManager(arch=ARCH)
    for number in range(4):
        placed = manager.register_mmio_device(Dice(), 4, f"d{number}")
        assert placed == (WINDOWS + number * 0x1000, 8 + number)
    with pytest.raises(IrqsExhausted):
        manager.register_mmio_device(Dice(), 4, "d4")
    manager.unregister(DeviceType.virtio(4), "d2")
    assert manager.register_mmio_device(Dice(), 4, "again") == (WINDOWS + 0x2000, 10)
    with pytest.raises(ConfigError, match=r"do not fit 0\.\.=31 of toy"):
        MMIODeviceManager(arch=ARCH, irq_interval=(8, 32))


def test_the_address_map_and_the_memory(vm: VM) -> None:
    found = [(row.start, row.end, row.name or row.kind) for row in vm.address_map]
    assert found[-2:] == [(RAM, RAM + 0xF_FFFF, "ram"), (RAM + 0x10_0000, (1 << 32) - 1, "hole")]
    names = [name for _, _, name in found if name != "hole"]
    assert names == ["tty0", "hotplug", "intc", "ram"]
    assert bytes(vm.memory.view(RAM, 5)) == b"write"


def test_counts_lines_and_registers(vm: VM) -> None:
    assert vm.traps["tty0"].registers["THR"].writes == 3
    assert vm.traps["hotplug"].registers["ID"].reads == 1
    assert vm.exits == {"mmio": 5}
    assert [(row.line, row.device) for row in vm.irqs] == [(3, "tty0"), (4, "hotplug")]
    vm.pause()
    assert list(vm.cpus[0].regs) == list(ARCH.registers)
    vm.cpus[0].set(acc=7)
    assert repr(vm.cpus[0]) == "   acc 0000000000000007      ip 0000000080000005"


def test_the_console_hears_what_is_typed(vm: VM) -> None:
    vm.console.send("x")
    assert list(vm.consoles) == ["tty0"]
    assert vm.devices["tty0"].peek("RBR") == ord("x")


def test_hot_plug(vm: VM) -> None:
    view = vm.hot_add(Dice(), id="dice")
    assert (view.base, view.irq, view.state) == (WINDOWS, None, "added")
    vm.replace("dice", Dice())
    vm.hot_remove("dice", force=True)
    assert "dice" not in vm.devices


def test_the_command_line_shows_it(vm: VM, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr("sys.stdout", out)
    live.report(vm, Rich(file=out, width=120))
    sampler = Sampler(vm.inspection)
    Rich(file=out, width=120, height=40).print(
        live.screen(vm, sampler.sample(), sampler, Rich(file=out, width=120, height=40))
    )
    for word in ("hi.toy on soft", "tty0", "intc", "ram"):
        assert word in out.getvalue()
    assert json.loads(json.dumps(vm.stats()))["devices"]["tty0"]["base"] == SERIAL


def test_the_views_show_it(vm: VM) -> None:
    for name in ("anywidget", "ipywidgets"):
        require_module(name)
    for view in (vm.lab(), vm.map_view(), vm.irq_view(), vm.trap_view(), vm.regs_view("tty0")):
        assert json.loads(json.dumps(view.snapshot))["machine"]["state"] == "running"
        assert view._repr_html_()
        view.close()


def test_what_no_engine_runs(toy: None) -> None:
    with pytest.raises(EngineUnavailable, match="'kvm' runs no toy guests"):
        engine.choose("kvm", arch="toy")
    with pytest.raises(EngineUnavailable, match="no engine runs riscv64 guests"):
        engine.choose("auto", arch="riscv64")
    assert engine.choose("auto", arch="toy")[0] == "soft"


def test_an_architecture_without_a_machine_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = ModuleType("bare")
    bare.ARCH = OnlyWindows("bare", ARCH.windows)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bare", bare)
    monkeypatch.setitem(arch.HOMES, "bare", "bare")
    assert MMIODeviceManager(arch="bare").mmio_base == WINDOWS
    with pytest.raises(ConfigError, match="no bare machine yet"):
        VM("hello", arch="bare")


def test_the_windows_and_the_machine_of_one_architecture() -> None:
    """libkrun's manager speaks of its own board; the machine that is built is the usual one."""
    assert arch.get("riscv64").windows.base == 0x0A00_0000
    assert arch.machine("riscv64").windows.base == 0x1000_1000

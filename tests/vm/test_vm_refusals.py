"""What a machine cannot be, and in which words."""

from __future__ import annotations

import errno
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.boot.images import elf64
from tests.support import kernel_image, require_module
from tests.vms import Dice, monitor
from vmlab import VM, Device, engine
from vmlab.core.host import Host
from vmlab.engine import kvm
from vmlab.errors import (
    BusError,
    CmdlineError,
    ConfigError,
    EngineUnavailable,
    KernelError,
    StateError,
    VmlabError,
)
from vmlab.testing.fake_kvm import FakeKvm

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"memory": 0}, "larger than zero"),
        ({"memory": "0"}, "larger than zero"),
        ({"memory": -1}, "larger than zero"),
        ({"memory": "67108865"}, "not a multiple of the page"),
        ({"memory": "4K"}, "too small"),
        ({"memory": "900T"}, "more than this host has"),
        ({"memory": "lots"}, "no size"),
        ({"memory": 1.5}, "no size"),
        ({"memory": True}, "no size"),
        ({"cpus": 0}, "1 to 8"),
        ({"cpus": 9}, "1 to 8"),
        ({"cpus": "2"}, "a whole number"),
        ({"cpus": 1.0}, "a whole number"),
        ({"engine": "qemu"}, "auto, kvm and soft"),
        ({"engine": None}, "auto, kvm and soft"),
        ({"devices": [Dice]}, "not a vmlab Device"),
        ({"devices": [7]}, "not a vmlab Device"),
        ({"cmdline": 7}, "text"),
        ({"initrd": 7}, "initrd=7: give the path of a file"),
        ({"initrd": b"x"}, "the path of a file"),
        ({"arch": 7}, "an architecture's name"),
        ({"arch": "arm64", "dtb": 7}, "dtb=7: give the path of a file"),
        ({"arch": "arm64", "gic": 4}, "versions 2 and 3"),
        ({"gic": 3}, "neither GIC"),
    ],
)
def test_values_that_no_machine_has(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        VM(**options)


@pytest.mark.parametrize("cmdline", ["a\nb", "ü", "x" * 4096, "a\0b"])
def test_command_lines_that_no_kernel_takes(cmdline: str) -> None:
    with pytest.raises(CmdlineError):
        VM(cmdline=cmdline)


def test_an_unknown_keyword_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="memroy"):
        VM(memroy="64M")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        VM("monitor", "kvm")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "name",
    [
        "nothing",
        "./nothing",
        "~nobody-of-that-name/x",
        "x" * 5000,
        "a\0b",
        "/etc/shadow/x",
        "",
        ".",
    ],
)
def test_kernels_that_are_not_there(name: str) -> None:
    with pytest.raises(KernelError):
        VM(kernel=name)
    with pytest.raises(KernelError):
        VM(initrd=name or ".")


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (b"", "is empty"),
        (b"#!/bin/sh\nexit 0\n", "a script"),
        (b"\x7fELF\x02\x01\x01", "truncated"),
        (elf64(machine=21), "made for ppc64"),
        (elf64(kind=1), "link it first"),
        (elf64()[:150], "truncated"),
    ],
)
def test_files_that_are_no_kernels(tmp_path: Path, image: bytes, words: str) -> None:
    """Said when the machine is described, not when it is started."""
    file = tmp_path / "kernel"
    file.write_bytes(image)
    with pytest.raises(KernelError, match=words):
        VM(kernel=file)


def test_a_kernel_for_another_machine(tmp_path: Path) -> None:
    """What was not asked for is the machine that it is for."""
    file = tmp_path / "kernel"
    file.write_bytes(elf64(machine=183, address=0x8010_0000, entry=0x8010_0000))
    assert VM(kernel=file).config.arch == "arm64"
    with pytest.raises(
        KernelError, match=r"made for arm64; this machine is x86_64; arch='arm64' \("
    ):
        VM(kernel=file, arch="x86_64")
    file.write_bytes(elf64())
    with pytest.raises(KernelError, match="made for x86_64; this machine is arm64; arch='x86_64'"):
        VM(kernel=file, arch="arm64")


def test_an_image_and_an_initrd_that_do_not_fit(tmp_path: Path, engine: str) -> None:
    big = tmp_path / "big"
    big.write_bytes(elf64(memory=64 << 20))
    vm = VM(kernel=big, engine=engine, memory="16M")
    with pytest.raises(KernelError, match="give it more"):
        vm.start()
    assert vm.state == "created"
    vm.stop()
    big.write_bytes(bytes(4 << 20))
    vm = VM(kernel="hello", engine=engine, memory="4M", initrd=big)
    with pytest.raises(KernelError, match="initrd"):
        vm.start()
    vm.stop()


def test_a_kernel_that_goes_between_description_and_start(tmp_path: Path, engine: str) -> None:
    file = tmp_path / "kernel"
    file.write_bytes(kernel_image("hello").read_bytes())
    vm = VM(kernel=file, engine=engine)
    file.unlink()
    with pytest.raises(KernelError, match="no such file"):
        vm.start()
    vm.stop()
    with pytest.raises(KernelError, match="no such file"):
        vm.start()
    file.write_bytes(kernel_image("hello").read_bytes())
    with vm:
        assert vm.wait(20) is not None


# --- windows and lines ------------------------------------------------------------------------------


class Huge(Device):
    size = 0x3000_0000
    wants_irq = False


class Endless(Device):
    size = 1 << 63
    wants_irq = False


def test_windows_stay_clear_of_what_the_machine_has(engine: str) -> None:
    with monitor(engine) as vm:
        for device in (Huge(), Endless()):
            with pytest.raises(BusError):
                vm.hot_add(device)
        vm.hot_add(Dice())
        spans = [(one.start, one.end) for one in vm.address_map]
        assert all(first[1] + 1 == second[0] for first, second in pairwise(spans))


def test_ids(engine: str) -> None:
    with monitor(engine) as vm:
        vm.hot_add(Dice(), id="a")
        for id in ("a", "com1", "timer0"):
            with pytest.raises(VmlabError, match=f"'{id}'"):
                vm.hot_add(Dice(), id=id)
        for id in ("com1", "timer0", "rtc"):
            with pytest.raises(ConfigError, match="part of the machine"):
                vm.hot_remove(id, force=True)
            with pytest.raises(ConfigError, match="part of the machine"):
                vm.replace(id, Dice())
        for call in (vm.hot_remove, lambda id: vm.replace(id, Dice())):
            with pytest.raises(VmlabError, match=r"(?s)couldn't be found.*'b'"):
                call("b")
        with pytest.raises(ConfigError):
            vm.hot_add(Dice(), id=7)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="not a vmlab Device"):
            vm.hot_add(Dice)  # type: ignore[arg-type]


# --- engines ----------------------------------------------------------------------------------------


class NoKvm(Host):
    """A host whose /dev/kvm does not open."""

    def __init__(self, code: int) -> None:
        self.code = code

    def open(self, path: str) -> int:
        raise OSError(self.code, os.strerror(self.code), path)


class OldKvm(FakeKvm):
    """A host whose KVM lacks irqfd."""

    def ioctl(self, fd: int, request: int, argument: Any = 0) -> int:
        if request == kvm.probe.abi.KVM_CHECK_EXTENSION and argument == kvm.probe.abi.KVM_CAP_IRQFD:  # type: ignore[attr-defined]
            return 0
        return super().ioctl(fd, request, argument)


@pytest.mark.parametrize(
    ("host", "words"),
    [
        (lambda: NoKvm(errno.ENOENT), "/dev/kvm does not exist: load the module"),
        (lambda: NoKvm(errno.EACCES), "usermod -aG kvm"),
        (lambda: NoKvm(errno.EPERM), "usermod -aG kvm"),
        (lambda: NoKvm(errno.EIO), "cannot be opened"),
        (OldKvm, "KVM_CAP_IRQFD"),
    ],
)
def test_without_kvm(monkeypatch: pytest.MonkeyPatch, host: Any, words: str) -> None:
    require_module("unicorn")
    made = host()
    monkeypatch.setattr(engine, "available", lambda name, arch: _available(name, made))
    with VM(kernel="hello", isolate=False) as vm:
        assert vm.engine == "soft"
        assert vm.engine_reason.startswith("no KVM: ")
        assert words in vm.engine_reason
        assert vm.wait(20) is not None
    vm = VM(kernel="hello", isolate=False, engine="kvm")
    with pytest.raises(EngineUnavailable) as caught:
        vm.start()
    assert words in str(caught.value)
    vm.stop()


def _available(name: str, host: Host) -> tuple[bool, str]:
    from vmlab.engine import soft

    return kvm.available(host) if name == "kvm" else soft.available()


def test_without_any_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "available", lambda name, arch: (False, f"no {name} today"))
    with pytest.raises(EngineUnavailable, match=r"no kvm today.*no soft today"):
        VM(kernel="hello", isolate=False).start()


def test_why_an_engine_was_chosen(engine: str) -> None:
    with VM(kernel="hello", engine=engine) as vm:
        assert (vm.engine, vm.engine_reason) == (engine, "asked for")


# --- calls in the wrong state ------------------------------------------------------------------------


def test_calls_before_the_start(engine: str) -> None:
    vm = VM(engine=engine)
    assert (vm.state, vm.exit, vm.pid) == ("created", None, None)
    for call in (vm.pause, vm.resume, vm.reset, vm.step):
        with pytest.raises(StateError, match="the machine is created"):
            call()
    with pytest.raises(StateError, match="start\\(\\) it"):
        vm.console.expect("x")
    with pytest.raises(StateError, match="start\\(\\) it"):
        vm.wait()
    assert "com1" in vm.devices
    assert vm.memory.size == 64 << 20
    vm.stop()
    assert vm.state == "stopped"


def test_calls_after_the_end(engine: str) -> None:
    with monitor(engine) as vm:
        pass
    vm.stop()
    for call in (
        vm.pause,
        vm.resume,
        vm.reset,
        vm.step,
        vm.trace,
        lambda: vm.memory,
        lambda: vm.cpus[0].regs,
        lambda: vm.hot_add(Dice()),
        lambda: vm.hot_remove("x"),
        lambda: vm.replace("x", Dice()),
        lambda: vm.console.send("x"),
        vm.devices["com1"].peek,
    ):
        with pytest.raises(StateError, match=r"the machine is stopped \(stopped by the host\)"):
            call()
    with pytest.raises(StateError):
        vm.console.expect("nothing of that kind")
    assert vm.traps["com1"].writes > 20
    assert vm.stats()["exit"]["reason"] == "stopped"
    assert vm.devices["com1"].traps == vm.traps["com1"].traps
    assert "monitor" in repr(vm)
    assert "com1" in repr(vm.devices["com1"])
    assert [row.line for row in vm.irqs if row.device == "com1"] == [4]
    assert vm.address_map[0].kind == "ram"


def test_calls_while_it_runs_that_need_it_paused(engine: str) -> None:
    with monitor(engine) as vm:
        with pytest.raises(StateError, match="running"):
            vm.step()
        with pytest.raises(StateError, match="pause it"):
            assert vm.cpus[0].regs
        with pytest.raises(StateError, match="pause it"):
            vm.cpus[0].set(rip=0)
        with pytest.raises(StateError, match="running"):
            vm.start()
        assert "pause to see" in repr(vm.cpus[0])
        vm.resume()


@pytest.mark.parametrize(
    "call",
    [
        lambda vm: vm.step(0),
        lambda vm: vm.step(-1),
        lambda vm: vm.step("2"),
        lambda vm: vm.step(1, cpu=7),
        lambda vm: vm.cpus[0].set(rip=1 << 64),
        lambda vm: vm.cpus[0].set(rip="x"),
        lambda vm: vm.cpus[0].set(nothing=1),
        lambda vm: vm.trace(0),
        lambda vm: vm.trace(last=10**9),
        lambda vm: vm.trace(device="nothing"),
        lambda vm: vm.trace(last="x"),
        lambda vm: vm.hot_remove(None),
        lambda vm: vm.devices["com1"].peek("nothing"),
    ],
)
def test_wrong_arguments_leave_the_machine_as_it_was(monkeypatch: Any, call: Any) -> None:
    require_module("unicorn")
    with monitor("soft") as vm:
        vm.pause()
        with pytest.raises((VmlabError, KeyError, TypeError, ValueError)):
            call(vm)
        assert vm.state == "paused"
        vm.resume()
        assert "Hello" not in vm.console.run("peek 0x300000")

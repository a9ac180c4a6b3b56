"""What was meant, by the names that exist."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.vms import monitor
from vmlab import VM, kernels
from vmlab.errors import ConfigError, KernelError, UnknownAttribute, UnknownName, VmlabError
from vmlab.hints import meant, perhaps, unknown
from vmlab.virtio import Disk


def test_names_that_are_near() -> None:
    known = ["hello", "monitor", "smp"]
    assert meant("minitor", known) == "monitor"
    assert meant("MONITOR", known) == "monitor"
    assert meant("xyz", known) == meant(5, known) == ""
    assert perhaps("helo", known) == "did you mean 'hello'? "
    assert unknown("kernel", "smq", known) == (
        "no kernel 'smq'; did you mean 'smp'? (there are hello, monitor, smp)"
    )
    assert unknown("kernel", "xyz", []) == "no kernel 'xyz'; there are none"
    assert "and 76 more" in unknown("kernel", 5, [f"name{number}" for number in range(100)])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kernel": "minitor"}, "did you mean 'monitor'"),
        ({"kernel": "linus"}, "did you mean 'linux'"),
        ({"kernel": None}, "kernel=None: give a bundled kernel's name"),
        ({"engine": "kmv"}, "did you mean 'kvm'"),
        ({"engine": "sfot"}, "did you mean 'soft'"),
        ({"memory": "64"}, 'did you mean "64M"'),
        ({"memory": 64}, 'did you mean "64M"'),
        ({"devices": 5}, r"devices=\[...\]"),
        ({"devices": "disk"}, r"devices=\[...\]"),
        ({"isolate": "no"}, "True or False"),
        ({"debug_exit": None}, "True or False"),
        ({"name": ""}, "name=''"),
        ({"name": 5}, "name=5"),
        ({"name": "a\nb"}, "printed"),
        ({"name": "x" * 100}, "100 characters"),
    ],
)
def test_wrong_values_of_a_vm(options: dict[str, Any], words: str) -> None:
    with pytest.raises((ConfigError, KernelError), match=words):
        VM(**options)


def test_a_device_where_a_list_is_wanted() -> None:
    with pytest.raises(ConfigError, match=r"give a list of them, devices=\[...\]"):
        VM(devices=Disk(size="1M"))  # type: ignore[arg-type]
    with pytest.raises(KernelError, match="did you mean 'hello'"):
        kernels.path("helo")


def test_names_in_a_machine(engine: str) -> None:
    with monitor(engine, devices={"disk0": Disk(size="1M")}) as vm:
        wrong: list[tuple[Callable[[], Any], str]] = [
            (lambda: vm.devices["dsk0"], "disk0"),
            (lambda: vm.traps["dsk0"], "disk0"),
            (lambda: vm.consoles["com2"], "com1"),
            (lambda: vm.irqs["dsk0"], "disk0"),
            (lambda: vm.hot_remove("dsk0"), "disk0"),
            (lambda: vm.replace("dsk0"), "disk0"),
            (lambda: vm.replace("dsk0", Disk(size="1M")), "disk0"),
            (lambda: vm.trace(device="dsk0"), "disk0"),
            (lambda: vm.tell("dsk0", "resize"), "disk0"),
            (lambda: vm.tell("disk0", "resze"), "resize"),
            (lambda: vm.devices["disk0"].resze, "resize"),
            (lambda: vm.devices["disk0"].peek("Statu"), "[Ss]tatus"),
            (lambda: vm.devices["disk0"].r.Statu, "Status"),
        ]
        for call, name in wrong:
            with pytest.raises(VmlabError, match=f"did you mean '{name}'"):
                call()
        assert vm.irqs["com1"] == vm.irqs.line(4)
        assert vm.irqs["disk0"].line == vm.devices["disk0"].irq
        for key in ("i8042", "nothing"):
            with pytest.raises(UnknownName, match=f"no interrupt line of '{key}'"):
                vm.irqs[key]
        with pytest.raises(UnknownName, match="no interrupt line 99"):
            vm.irqs.line(99)
        assert vm.irqs[0] in vm.irqs[:1]
        for table in (vm.devices, vm.traps, vm.irqs, vm.consoles):
            assert "com1" in table._ipython_key_completions_()
        with pytest.raises(ConfigError, match="a function of the VM"):
            vm.wait_until(vm.traps.total > 5)  # type: ignore[arg-type]
        for step in (lambda: vm.step("a"), lambda: vm.memory.read("0", 4)):  # type: ignore[arg-type]
            with pytest.raises(VmlabError, match="whole numbers"):
                step()


def test_a_sentence_is_shown_without_quotes() -> None:
    assert str(UnknownName("no device 'x'")) == "no device 'x'"
    assert issubclass(UnknownName, KeyError)
    assert issubclass(UnknownAttribute, AttributeError)

"""`vm.devices[id].checklist()`: of real guests' drivers, over the process boundary, and past the end."""

from __future__ import annotations

import pytest

from tests.support import require_kvm
from tests.vms import PROMPT, Dice, monitor
from tests.waiting import until
from vmlab import VM, kernels
from vmlab.errors import ConfigError, DeviceNotFound, StateError, UnknownName
from vmlab.testing import Check, DeviceHarness, Wrong
from vmlab.virtio import Disk, Rng
from vmlab.virtio.mmio import MmioTransport

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture(params=[True, False], ids=["isolated", "local"])
def isolate(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_a_guests_driver_has_done_it_all(engine: str, isolate: bool) -> None:
    with monitor(engine, isolate=isolate, devices={"rng0": Rng(seed=1)}) as vm:
        view = vm.devices["rng0"]
        until(lambda: view.state == "driver_ok")
        assert {step.done for step in view.checklist().setup} == {True}
        assert {step.done for step in view.checklist().request} == {None}
        vm.console.run("rng 8")
        found = view.checklist()
        assert found.failed == [], found
        assert {step.state for step in found} == {"done"}, found
        assert (found.id, found.type, found.version, found.queue) == ("rng0", "virtio-rng", 2, 0)
        assert found == view.checklist(0)
        vm.pause()
        assert found == view.checklist()
    # what was known at the end is still told
    assert found == view.checklist()


def stores(vm: VM, device: str, arch: str) -> list[int]:
    """Where the set-up's stores are: all in the driver, which is one file of the kernel's."""
    near = vm.load_symbols(kernels.path("monitor", arch)).address_of("virtio_add")
    places = [step.where for step in vm.devices[device].checklist().setup]
    return [one for one in places if one is not None and abs(one - near) < 0x1000]


@pytest.mark.parametrize("arch", ["x86_64", "arm64", "riscv64"])
def test_on_each_architecture(arch: str) -> None:
    with VM("monitor", engine="soft", arch=arch, devices={"disk0": Disk(size="1M")}) as vm:
        vm.console.expect(PROMPT, timeout=30)
        with Check(vm) as check:
            check.driver("disk0", until="DRIVER_OK")
        assert vm.devices["disk0"].checklist()["identify"].done
        assert len(stores(vm, "disk0", arch)) == 7


def test_kvm_knows_where_too() -> None:
    require_kvm()
    with monitor("kvm", devices={"rng0": Rng(seed=1)}) as vm:
        until(lambda: vm.devices["rng0"].state == "driver_ok")
        assert len(stores(vm, "rng0", "x86_64")) == 7


def test_who_has_none(engine: str) -> None:
    with monitor(engine, devices={"rng0": Rng(), "dice0": Dice()}) as vm:
        with pytest.raises(
            ConfigError, match=r"'dice0' \(dice\) is no virtio device .*; rng0 has one"
        ):
            vm.devices["dice0"].checklist()
        view = vm.devices["rng0"]
        with pytest.raises(ConfigError, match="queue=3; virtio-rng has the queues 0 to 0"):
            view.checklist(3)
        with pytest.raises(ConfigError, match="queue='x'"):
            view.checklist("x")  # type: ignore[arg-type]
        vm.hot_remove("rng0", force=True)
        with pytest.raises(DeviceNotFound):
            view.checklist()
    with pytest.raises(StateError, match="was not in it at its end"):
        view.checklist()


def test_a_check_of_a_driver_lists_what_is_missing() -> None:
    with monitor("soft", devices={"rng0": Rng(seed=1)}) as vm:
        vm.console.run("rng 8")
        with Check(vm) as check:
            check.driver("rng0")
            check.driver(vm.devices["rng0"], until="FEATURES_OK")
        base = vm.devices["rng0"].base
        vm.console.run(f"poke {base + 0x70:#x} 0")
        vm.console.run(f"poke {base + 0x70:#x} 3")
        vm.console.run(f"poke {base + 0x70:#x} 0xb")
        with (
            pytest.raises(Wrong, match=r"FEATURES_OK: wrong .*§3.1.1 step 5\)") as caught,
            Check(vm) as check,
        ):
            check.driver("rng0", until="FEATURES_OK", timeout=0.1)
        assert "lacks VIRTIO_F_VERSION_1 (bit 32, §6.1)" in str(caught.value)
        assert "DRIVER_OK" not in str(caught.value).splitlines()[-1]
        with pytest.raises(UnknownName, match="did you mean 'FEATURES_OK'"):
            vm.devices["rng0"].checklist()["FEATUR_OK"]


def test_a_check_without_a_machine() -> None:
    with DeviceHarness(MmioTransport(Rng())) as harness:
        with pytest.raises(Wrong, match="ACKNOWLEDGE: not yet"), Check() as check:
            check.driver(harness)
        with (
            pytest.raises(TypeError, match="no transport"),
            DeviceHarness(Dice()) as dice,
            Check() as check,
        ):
            check.driver(dice)

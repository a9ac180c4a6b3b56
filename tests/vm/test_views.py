"""How snapshots print, and views of devices that are gone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from vmlab import VM, Device, Registers, rw
from vmlab.errors import ConfigError


class Knob(Device):
    class regs(Registers):
        VALUE = rw(0x00, "anything")


@pytest.fixture
def vm(engine: str) -> Iterator[VM]:
    with VM(kernel="monitor", engine=engine, devices={"left": Knob(), "right": Knob()}) as machine:
        machine.console.expect("> $")
        yield machine


def test_a_mapping_gives_devices_their_ids(vm: VM) -> None:
    assert [vm.devices[id].base for id in ("left", "right")] == [0xD000_0000, 0xD000_1000]
    with pytest.raises(ConfigError, match="not a vmlab Device"):
        VM(kernel="monitor", devices={"left": 3})  # type: ignore[dict-item]


def test_tables_print_as_tables(vm: VM) -> None:
    irqs = repr(vm.irqs).splitlines()
    assert irqs[0].split() == ["line", "device", "raised", "delivered", "level"]
    assert [line.split()[1] for line in irqs[1:]] == [row.device for row in vm.irqs]
    ranges = repr(vm.address_map).splitlines()
    assert len(ranges) == len(vm.address_map)
    assert ranges[-1].endswith("ram")
    assert "0xd000_0000" in repr(vm.devices)


def test_an_unknown_device_is_told_what_there_is(vm: VM) -> None:
    with pytest.raises(KeyError, match=r"no device 'middle'; there are .*left"):
        vm.devices["middle"]
    assert vm.devices.get("middle") is None


@pytest.mark.parametrize(
    "change",
    [
        lambda devices: devices.pop("left"),
        lambda devices: devices.popitem(),
        lambda devices: devices.clear(),
        lambda devices: devices.update(left=1),
        lambda devices: devices.setdefault("new", 1),
        lambda devices: devices.__ior__({"new": 1}),
    ],
)
def test_the_list_of_devices_is_changed_by_hot_plug_alone(vm: VM, change: Any) -> None:
    with pytest.raises(ConfigError, match=r"hot_add and vm\.hot_remove change it"):
        change(vm.devices)
    assert "left" in vm.devices


def test_a_view_of_a_removed_device_says_so_and_counts_nothing_of_its_successor(vm: VM) -> None:
    view = vm.devices["left"]
    vm.console.run("peek 0xd0000000")
    assert view.traps
    vm.hot_remove("left")
    assert (view.state, view.traps) == ("gone", 0)
    vm.hot_add(Knob(), id="left")
    assert view.state == "gone" or view.counts.traps == vm.devices["left"].traps

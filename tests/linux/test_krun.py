"""libkrun's kernel: no ACPI, no serial console; windows by the command line, hot-plug by placeholders."""

from __future__ import annotations

import pytest

from tests.linux.conftest import BOOT, fetched
from tests.waiting import until
from vmlab.virtio import Console, Disk, Rng
from vmlab.vm import VM

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.engines("soft", "kvm")
def test_it_boots_to_its_console_and_takes_devices_while_it_runs(linux_engine: str) -> None:
    with VM(fetched("krun"), engine=linux_engine, devices=[Console(), Disk(size="2M")]) as vm:
        console = vm.consoles["console0"]
        console.expect("# ", timeout=BOOT)

        def run(command: str) -> str:
            return console.run(command, timeout=60)

        def reach(id: str) -> None:
            until(lambda: vm.devices[id].state == "driver_ok", f"{id} runs", 30)

        assert run("cat /sys/block/vda/size") == "4096"
        reach(vm.hot_add(Rng(), "rng").id)
        assert run("head -c 16 /dev/hwrng | wc -c") == "16"
        for _ in range(3):
            reach(vm.hot_add(Disk(size="1M"), "disk").id)
            assert run("cat /sys/block/vdb/size") == "2048"
            vm.hot_remove("disk")
            assert run("ls /dev/vdb 2>/dev/null") == ""
        lines = {row.line for row in vm.irqs if row.device in ("console0", "disk0", "rng")}
        assert lines == {5, 6, 7}
        vm.hot_remove("disk0", force=True)
        assert run("sync; head -c 1 /dev/vda | wc -c 2>/dev/null").endswith("0")
        reach(vm.hot_add(Disk(size="3M"), "disk0").id)
        assert run("cat /sys/block/vd?/size") == "6144"
        assert "placeholder0" not in vm.devices

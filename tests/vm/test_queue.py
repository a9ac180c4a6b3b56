"""`vm.devices[id].queue()`: over the process boundary, of real drivers' queues."""

from __future__ import annotations

import pytest

from tests.support import require_module
from tests.vms import monitor
from vmlab import VM
from vmlab.errors import ConfigError, StateError
from vmlab.virtio import Disk, Nic

pytestmark = pytest.mark.usefixtures("no_leaks")


def test_a_request_and_what_waits(engine: str) -> None:
    with monitor(engine, devices={"disk0": Disk(size="1M"), "nic0": Nic()}) as vm:
        disk = vm.devices["disk0"]
        assert disk.queue().chains == []
        vm.console.run("blk read 1")
        queue = disk.queue(0)
        (done,) = queue.chains
        assert (done.state, done.descriptors) == ("done", [0, 1, 2])
        assert [one.flags for one in queue.descriptors[:3]] == [
            ("NEXT",),
            ("NEXT", "WRITE"),
            ("WRITE",),
        ]
        assert [one.length for one in queue.descriptors[:3]] == [16, 512, 1]
        text = vm.memory.read(queue.descriptors[0].address, 16)
        assert int.from_bytes(text[8:], "little") == 1, "the sector"
        assert "1 used" in repr(queue)
        assert "<caption" in queue._repr_html_()
        buffers = vm.devices["nic0"].queue(0)
        assert {one.state for one in buffers.chains} == {"waits"}
        assert {one.owner for one in buffers.descriptors[:8]} == {"device"}
        with pytest.raises(ConfigError, match="queue 7: virtio-net has the queues 0 to 2"):
            vm.devices["nic0"].queue(7)
        with pytest.raises(ConfigError, match="queue '0': the number"):
            disk.queue("0")  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="no virtqueue; disk0, nic0 have one"):
            vm.devices["com1"].queue()
    with pytest.raises(StateError, match="stopped"):
        disk.queue()


@pytest.mark.parametrize("arch", ["arm64", "riscv64"])
def test_on_other_architectures(arch: str) -> None:
    require_module("unicorn")
    with VM("monitor", engine="soft", arch=arch, devices={"disk0": Disk(size="1M")}) as vm:
        vm.console.expect("vmlab> ")
        vm.console.run("blk read 0")
        assert vm.devices["disk0"].queue().chains[0].state == "done"


def test_a_queue_that_nobody_has_set_up() -> None:
    require_module("unicorn")
    with VM("hello", engine="soft", devices={"disk0": Disk(size="1M")}) as vm:
        queue = vm.devices["disk0"].queue()
        assert (queue.ready, queue.descriptors) == (False, [])
        assert "the driver has not set it up" in repr(queue)

"""How long a running Linux takes for a new device, as its user sees it."""

from __future__ import annotations

import time

from vmlab.virtio import Disk
from vmlab.vm import VM
from vmlab.vm.console import Console

__all__ = ["hot_add_to_read"]


def hot_add_to_read(vm: VM, console: Console, id: str = "timed") -> float:
    """Seconds from `hot_add` of a first disk to its first sector read by a program in the guest, whose
    shell is on `console`. The disk stays, as `id`."""
    # a node that is there before its disk cannot be opened yet
    console.send("until head -c 512 /dev/vda >/tmp/first 2>/dev/null; do :; done; echo ready\n")
    console.expect("echo ready\n")
    began = time.monotonic()
    vm.hot_add(Disk(size="1M"), id)
    console.expect("ready\n", timeout=30)
    took = time.monotonic() - began
    console.expect("# ")
    return took

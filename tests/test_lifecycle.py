"""Many machines in a row leave nothing behind."""

from __future__ import annotations

import gc
import itertools
import os
import threading
from pathlib import Path

import psutil
import pytest

from tests.support import kvm_missing, require_module
from tests.vms import PATIENCE
from vmlab import VM

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180), pytest.mark.usefixtures("no_leaks")]

#: machines before the first measurement: imports, allocator pools, caches
WARM = 20
#: bytes a machine that the resident size may grow by; the allocator's noise is below it
SLOPE = 8 << 10


def held() -> dict[str, int]:
    shared = Path("/dev/shm")
    return {
        "descriptors": len(os.listdir("/dev/fd")),
        "threads": threading.active_count(),
        "children": len(psutil.Process().children(recursive=True)),
        "shared memory": len(list(shared.iterdir())) if shared.is_dir() else 0,
        "mappings": len(psutil.Process().memory_maps(grouped=False)),
    }


def start_and_stop(count: int, engines: list[str], isolate: bool) -> None:
    process = psutil.Process()
    before: dict[str, int] = {}
    resident = 0
    for number, engine in zip(range(count), itertools.cycle(engines), strict=False):
        if number == WARM:
            gc.collect()
            before, resident = held(), process.memory_info().rss
        with VM(kernel="hello", engine=engine, memory="2M", isolate=isolate) as vm:
            ended = vm.wait(PATIENCE)
        assert ended is not None
        assert ended.code == 1
    del vm
    gc.collect()
    grown = (process.memory_info().rss - resident) / (count - WARM)
    after = held()
    # the allocator may split or join its own mappings
    assert after.pop("mappings") <= before.pop("mappings") + 10
    assert after == before
    assert grown < SLOPE, f"{grown / 1024:.1f} KiB a machine"


def test_two_hundred_machines() -> None:
    """Both engines by turns, where there are both."""
    require_module("unicorn")
    start_and_stop(200, ["soft"] if kvm_missing() else ["kvm", "soft"], isolate=True)


@pytest.mark.kvm
def test_a_hundred_machines_in_this_process() -> None:
    start_and_stop(100, ["kvm"], isolate=False)

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

#: bytes a machine that the resident size may grow by
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


def start_and_stop(warm: int, count: int, engines: list[str], isolate: bool) -> None:
    """After `warm` machines (imports, allocator pools, caches) `count`, and `count` more. The resident size
    goes up and down with the garbage, which is collected now and then; its peaks do not, unless something is
    left."""
    process = psutil.Process()
    before: dict[str, int] = {}
    sizes: list[int] = []
    for number, engine in zip(range(warm + 2 * count), itertools.cycle(engines), strict=False):
        if number == warm:
            gc.collect()
            before = held()
        with VM(kernel="hello", engine=engine, memory="2M", isolate=isolate) as vm:
            ended = vm.wait(PATIENCE)
        if number % 10 == 9:
            gc.collect()
        sizes.append(process.memory_info().rss)
        assert ended is not None
        assert ended.code == 0
    del vm
    gc.collect()
    grown = (max(sizes[-count:]) - max(sizes[warm:-count])) / count
    after = held()
    # the allocator may split or join its own mappings
    assert after.pop("mappings") <= before.pop("mappings") + 10
    assert after == before
    assert grown < SLOPE, f"{grown / 1024:.1f} KiB a machine"


def test_a_hundred_machines() -> None:
    """Both engines by turns, where there are both. Most of it is processes that begin."""
    require_module("unicorn")
    start_and_stop(30, 35, ["soft"] if kvm_missing() else ["kvm", "soft"], isolate=True)


@pytest.mark.kvm
def test_hundreds_of_machines_in_this_process() -> None:
    start_and_stop(60, 150, ["kvm"], isolate=False)

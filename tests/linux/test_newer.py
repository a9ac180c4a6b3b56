"""A kernel after 6.1, of another Debian release: a zstd bzImage and modules in .xz."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.linux.conftest import Guest, fetched
from tests.support import require_module
from vmlab.virtio import Disk, Rng

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_it_boots_and_takes_and_gives_back_devices(boot: Callable[..., Guest]) -> None:
    require_module("zstandard")
    guest = boot(kernel=fetched("debian-trixie"), devices=[Disk(size="1M")])
    assert guest.vm.console.text.startswith("\n\nBusyBox")
    assert int(guest.run("uname -r").split(".")[1]) >= 12
    guest.add(Rng(), "x")
    assert guest.run("head -c 8 /dev/hwrng | wc -c") == "8"
    guest.vm.hot_remove("x")
    guest.add(Disk(size="4M"), "x")
    guest.run("mke2fs -q /dev/vdb >/dev/null; mount -t ext4 /dev/vdb /mnt; echo 1 >/mnt/a; sync")
    # while it stands still its driver sees nothing of it: requests fail, and it is told afterwards
    guest.vm.pause()
    guest.vm.hot_remove("x", force=True)
    guest.vm.resume()
    guest.run("echo 2 >/mnt/a; sync; umount /mnt")
    guest.vm.wait_until(lambda vm: vm.traps["hotplug"].registers["ANSWER"].writes >= 2, 30)
    guest.add(Disk(size="2M"), "y")
    assert guest.run("cat /sys/block/vd[bc]/size") == "4096"
    assert guest.complaints() == ""
    assert guest.vm.shutdown().reason == "poweroff"

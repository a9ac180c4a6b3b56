"""A root file system of one's own on a disk: it boots, it is written to, and it outlives its machine."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.linux.conftest import Guest
from tests.support import require_program
from vmlab.errors import MonitorLost
from vmlab.linux.kernel import LinuxKernel
from vmlab.virtio import Disk, Rng

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.engines("soft", "kvm")]

Boot = Callable[..., Guest]


@pytest.fixture
def root(debian: LinuxKernel, tmp_path: Path) -> Path:
    """An ext4 image with a system of busybox alone."""
    mke2fs = require_program("mke2fs")
    tree = tmp_path / "root"
    (tree / "bin").mkdir(parents=True)
    (tree / "sbin").mkdir()
    (tree / "etc").mkdir()
    (tree / "bin/busybox").write_bytes((debian.initrd.parent / "busybox").read_bytes())
    (tree / "bin/busybox").chmod(0o755)
    for name in ("sh", "cat", "dd", "sync", "grep", "dmesg", "head", "wc", "sha256sum"):
        (tree / "bin" / name).symlink_to("busybox")
    (tree / "sbin/init").symlink_to("/bin/busybox")
    (tree / "etc/inittab").write_text("ttyS0::respawn:-/bin/sh\n")
    (tree / "etc/profile").write_text("PS1='# '\n")
    image = tmp_path / "root.img"
    subprocess.run([mke2fs, "-q", "-t", "ext4", "-d", tree, image, "24M"], check=True)
    return image


def test_it_boots_into_the_disk_and_loses_nothing_that_was_flushed(boot: Boot, root: Path) -> None:
    e2fsck, debugfs = require_program("e2fsck"), require_program("debugfs")
    guest = boot(devices=[Disk(root)], cmdline="root=/dev/vda")
    assert " / ext4 rw," in guest.run("grep ' / ' /proc/mounts")
    assert guest.run("cat /proc/1/comm") == "init"
    # the host's requests are still served, from beneath this root
    guest.add(Rng(), "rng")
    assert guest.run("head -c 8 /dev/hwrng | wc -c") == "8"
    guest.vm.hot_remove("rng")

    wanted = guest.run("dd if=/dev/urandom of=/kept bs=64k count=16 2>/dev/null; sha256sum /kept")
    guest.run("sync")
    guest.vm.console.send("while dd if=/dev/zero of=/more bs=4k count=256; do sync; done\n")
    guest.vm.console.expect("records out", timeout=30)
    guest.vm.console.expect("records out", timeout=30)
    assert guest.vm.pid
    os.kill(guest.vm.pid, signal.SIGKILL)
    with contextlib.suppress(MonitorLost):
        guest.vm.wait(30)

    replayed = subprocess.run([e2fsck, "-fy", root], check=False, capture_output=True, text=True)
    assert "recovering journal" in replayed.stdout + replayed.stderr
    assert replayed.returncode in (0, 1), replayed.stdout
    subprocess.run([e2fsck, "-fn", root], check=True, capture_output=True)
    kept = root.with_name("kept")
    subprocess.run([debugfs, "-R", f"dump /kept {kept}", root], check=True, capture_output=True)
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == wanted.split()[0]


def test_a_root_that_is_not_there_is_said(boot: Boot) -> None:
    guest = boot(devices=[Disk(size="1M")], cmdline="root=/dev/vdb")
    assert "root=/dev/vdb cannot be used" in guest.vm.console.text
    assert guest.run("cat /sys/block/vda/size") == "2048"

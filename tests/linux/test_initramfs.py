"""The archive: its format, its order, and what it is built from."""

from __future__ import annotations

import lzma
import subprocess
from pathlib import Path

import pytest

from tests.support import require_program
from vmlab.arch import get
from vmlab.errors import KernelError
from vmlab.linux import initramfs
from vmlab.linux.cpio import Archive


def test_cpio_reads_it(tmp_path: Path) -> None:
    cpio = require_program("cpio")
    archive = Archive()
    archive.file("a/b/file", b"12345", 0o644)
    archive.file("a/script", b"#!/bin/sh\n", 0o755)
    archive.link("a/link", "b/file")
    archive.folder("a/b")
    done = subprocess.run(
        [cpio, "-i", "-d", "--quiet"], input=archive.finish(), cwd=tmp_path, check=True
    )
    assert done.returncode == 0
    assert (tmp_path / "a/link").read_bytes() == b"12345"
    assert (tmp_path / "a/script").stat().st_mode & 0o777 == 0o755


def test_every_part_is_aligned_and_its_length_right() -> None:
    archive = Archive()
    for size in range(9):
        archive.file(f"f{'x' * size}", b"y" * size)
    data = archive.finish()
    at, names = 0, []
    while at < len(data):
        head = data[at : at + 110]
        assert head[:6] == b"070701"
        size, length = int(head[54:62], 16), int(head[94:102], 16)
        names.append(data[at + 110 : at + 110 + length - 1].decode())
        at = at + 110 + length + 3 & ~3
        at = at + size + 3 & ~3
    assert names == [f"f{'x' * size}" for size in range(9)] + ["TRAILER!!!"]


def test_the_same_files_give_the_same_bytes() -> None:
    assert initramfs.build(b"busybox", None) == initramfs.build(b"busybox", None)


def module(*needs: str) -> bytes:
    return b"\x7fELF..\0license=GPL\0depends=" + ",".join(needs).encode() + b"\0name=x\0"


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    (tmp_path / "kernel").mkdir()
    for name, needed in (("virtio-mmio", "virtio,virtio_ring"), ("virtio", "virtio_ring")):
        (tmp_path / f"kernel/{name}.ko").write_bytes(module(*needed.split(",")))
    (tmp_path / "kernel/virtio_ring.ko.xz").write_bytes(lzma.compress(module()))
    (tmp_path / "modules.builtin").write_text("kernel/drivers/virtio/virtio_rng.ko\n")
    return tmp_path


def test_modules_come_behind_those_that_they_need(modules: Path) -> None:
    found = [path.name for path in initramfs.order(modules, ["virtio_mmio", "virtio_rng"])]
    assert found == ["virtio_ring.ko.xz", "virtio.ko", "virtio-mmio.ko"]


def test_a_module_that_is_nowhere(modules: Path) -> None:
    with pytest.raises(KernelError, match="no module virtio_net, and it is not built in"):
        initramfs.order(modules, ["virtio_net"])


def test_the_scripts_are_well_formed() -> None:
    shell = require_program("sh")
    for name in ("init.sh", "console.sh", "root.sh", "slot.sh", "watch.sh"):
        path = Path(initramfs.__file__).with_name(name)
        subprocess.run([shell, "-n", path], check=True)


@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
def test_the_scripts_are_told_where_things_are(arch: str) -> None:
    machine = get(arch)
    told = f"controller={machine.hotplug:#x}\nwindows='{machine.windows.first:#x}'\n"
    assert told.encode() in initramfs.build(b"busybox", None, arch=arch)


def test_the_scripts_name_the_registers_that_there_are() -> None:
    from vmlab.devices.hotplug import RELEASED, HotPlug

    for script in ("slot.sh", "watch.sh"):
        text = Path(initramfs.__file__).with_name(script).read_text()
        assert "\n. /lib/vmlab/machine\n" in text
        assert f"released={RELEASED}\n" in text
        assert f"+ {HotPlug.regs.SLOT.offset:#x}" in text
        assert f"+ {HotPlug.regs.ANSWER.offset:#x}" in text
    assert f"+ {HotPlug.regs.EVENT_LOW.offset:#x}" in text
    assert f"+ {HotPlug.regs.STATE.offset:#x}" in text
    assert f"+ {HotPlug.regs.POWER.offset:#x}" in text

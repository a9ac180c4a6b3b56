"""The part of `linux` that runs in the box: Debian's kernel on KVM, under vmlab and under QEMU's microvm.

It is given the number of rounds, and says over the box's line what comes next and how many seconds it took.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from linux import hot_adds
from tests.box.line import Line
from vmlab import VM, kernels
from vmlab.linux.cpio import Archive

SAYS = "init is running"
#: seconds for what takes some
PATIENCE = 60.0
CMDLINE = "console=ttyS0 quiet panic=-1 mitigations=off cryptomgr.notests"
MEMORY = "256M"


def main() -> None:
    rounds = int(sys.argv[1])
    line = Line()
    line.send(up=True)
    linux = kernels.linux("debian", "x86_64")
    with tempfile.TemporaryDirectory() as folder:
        initrd = Path(folder, "initrd")
        initrd.write_bytes(initramfs(linux.kernel.with_name("busybox").read_bytes()))
        for _ in range(rounds + 1):
            line.send(next="qemu")
            line.send(took=under_qemu(linux.kernel, initrd))
            line.send(next="vmlab")
            line.send(took=under_vmlab(linux.kernel, initrd))

    def between(what: str) -> None:
        line.send(**({"next": what} if what == "add" else {"done": what}))

    line.send(hot_adds=hot_adds("kvm", rounds, between))


def initramfs(busybox: bytes) -> bytes:
    """A system that says one thing and waits."""
    archive = Archive()
    archive.node("dev/console", 5, 1)
    archive.file("bin/busybox", busybox, 0o755)
    init = f"#!/bin/busybox sh\necho {SAYS}\nwhile :; do /bin/busybox sleep 100; done\n"
    archive.file("init", init.encode(), 0o755)
    return archive.finish()


def under_qemu(kernel: Path, initrd: Path) -> float:
    # its fastest: without the timer and the interrupt controller of old, which Linux tries out first
    machine = "microvm,accel=kvm,pit=off,pic=off"
    command = ["qemu-system-x86_64", "-M", machine, "-cpu", "host", "-m", MEMORY]
    command += ["-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio"]
    command += ["-kernel", str(kernel), "-initrd", str(initrd), "-append", CMDLINE]
    began = time.monotonic()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as qemu:
        assert qemu.stdout is not None
        for said in qemu.stdout:
            if SAYS.encode() in said:
                took = time.monotonic() - began
                qemu.kill()
                return took
    raise RuntimeError("Linux does not come up under QEMU")


def under_vmlab(kernel: Path, initrd: Path) -> float:
    began = time.monotonic()
    with VM(kernel, initrd=initrd, cmdline=CMDLINE, memory=MEMORY, engine="kvm") as vm:
        vm.console.expect(SAYS, timeout=PATIENCE)
        return time.monotonic() - began


if __name__ == "__main__":
    main()

"""Linux guests: how long they boot, and how soon a disk that is added can be read.

On KVM it is measured in the box of tests/box, on any host: against QEMU's microvm there, with the same
kernel and initramfs, in turns. Times there are those that the emulated CPU works, which other work on this
host does not stretch much.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from figures import Figure, NotHere, median, plain, ratio
from vmlab import VM, kernels
from vmlab.errors import KernelError
from vmlab.linux.kernel import LinuxKernel
from vmlab.virtio import Console, Disk

ROOT = Path(__file__).resolve().parent.parent
#: seconds that the box may take for all rounds
PATIENCE = 900.0
#: seconds for what a guest does in some
GUEST = 60.0
#: what microvm loads beside itself; all of it lies in one of these folders
FIRMWARE = ("bios-microvm.bin", "linuxboot_dma.bin", "pvh.bin", "kvmvapic.bin")
FOLDERS = ("/usr/share/qemu", "/usr/share/seabios", "/usr/local/share/qemu")


def boots_in_software(rounds: int) -> list[Figure]:
    """From VM(...) to the shell's prompt."""
    figures = []
    for source, target in (("debian", 4.0), ("krun", 3.0)):
        linux = kernel(source)
        samples = [software_boot(linux) for _ in range(rounds + 1)][1:]
        name = f"VM(...) to Linux's prompt, {source}, in software"
        figures.append(plain(name, samples, "s", target))
    return figures


def software_boot(linux: LinuxKernel) -> float:
    devices = [Console()] if linux.source == "krun" else []
    began = time.monotonic()
    with VM(linux, engine="soft", devices=devices) as vm:
        console = vm.consoles["console0"] if devices else vm.console
        console.expect(re.compile("# "), timeout=GUEST)
        return time.monotonic() - began


def hot_add_in_software(rounds: int) -> list[Figure]:
    """From hot_add to the disk's first bytes in the guest."""
    kernel("debian")
    return [plain("hot_add to /dev/vda readable, soft", hot_adds("soft", rounds), "s", 0.5)]


def hot_adds(
    engine: str, rounds: int, between: Callable[[str], None] = lambda what: None
) -> list[float]:
    """From hot_add to what a reader of /dev/vda says, in one guest. between: told "add" and "added"."""
    samples = []
    with VM(kernels.linux("debian", "x86_64"), engine=engine) as vm:
        vm.console.expect("# ", timeout=GUEST)
        wait = "until head -c 6 /dev/vda; do usleep 20000; done 2>/dev/null\n"
        for number in range(rounds):
            # what was typed is echoed, and so must not be what is waited for
            says = f"disk{number:02}"
            vm.console.send(wait)
            vm.console.expect("/dev/null\r?\n")
            time.sleep(0.3)
            between("add")
            began = time.monotonic()
            vm.hot_add(Disk(data=says.encode().ljust(1 << 20, b"\0")), "disk")
            vm.console.expect(says, timeout=GUEST)
            samples.append(time.monotonic() - began)
            between("added")
            vm.hot_remove("disk")
            vm.console.run("", timeout=GUEST)
    return samples


def in_the_box(rounds: int) -> list[Figure]:
    """Debian to init against QEMU, and the hot-add, on KVM."""
    from tests.box import image
    from tests.box.machine import Box, BoxError

    qemu = shutil.which("qemu-system-x86_64")
    if qemu is None:
        raise NotHere("no qemu-system-x86_64 (Debian: apt-get install qemu-system-x86)")
    places = [Path(folder, name) for folder in FOLDERS for name in FIRMWARE]
    programs = [Path(qemu), *(path for path in places if path.exists())]
    run = [str(image.PYTHON), "benchmarks/linux_boxed.py", str(rounds)]
    try:
        box = Box(run, {}, programs)
        try:
            box.receive(PATIENCE)
            worked: dict[str, list[float]] = {"qemu": [], "vmlab": [], "add": []}
            took: dict[str, list[float]] = {"qemu": [], "vmlab": []}
            while "next" in (message := box.receive(PATIENCE)):
                before = box.cpu_time
                if "took" in (answer := box.receive(PATIENCE)):
                    took[message["next"]].append(answer["took"])
                worked[message["next"]].append(box.cpu_time - before)
        finally:
            box.close()
    except BoxError as error:
        raise NotHere(str(error)) from error
    # the first of each was for the page cache
    above, below = {"s of CPU": worked["vmlab"][1:]}, {"s in QEMU": worked["qemu"][1:]}
    figure = ratio("VM(...) to Linux's init / QEMU microvm, KVM in a box", above, below, 1.6)
    for name, samples in took.items():
        figure.of[f"s of {name} by the clock"] = median(samples[1:])
    added = plain("hot_add to /dev/vda readable, KVM in a box", worked["add"], "s", 0.5)
    added.of = {"s by the clock": median(message["hot_adds"])}
    return [figure, added]


def arm64_against_qemu(rounds: int) -> list[Figure]:
    """Debian's arm64 kernel to its prompt in software, and QEMU's TCG with the same kernel, initramfs and
    command line, in turns; and the seconds of CPU that the whole of ours takes."""
    qemu = shutil.which("qemu-system-aarch64")
    if qemu is None:
        raise NotHere("no qemu-system-aarch64 (Debian: apt-get install qemu-system-arm)")
    linux = kernel("debian", "arm64")
    theirs = [
        *(qemu, "-M", "virt,gic-version=2", "-cpu", "max,pauth=off", "-accel", "tcg", "-m", "256M"),
        *("-display", "none", "-nodefaults", "-no-reboot", "-serial", "stdio"),
        *("-kernel", str(linux.kernel), "-initrd", str(linux.initrd), "-append", linux.cmdline),
    ]
    mine, other, worked = [], [], []
    for number in range(rounds + 1):
        with qemu_at_prompt(theirs) as took:
            other.append(took)
        before = cpu_of_children()
        mine.append(software_boot(linux))
        worked.append(cpu_of_children() - before)
        if not number:  # for the page cache
            mine, other, worked = [], [], []
    name = "VM(...) to the prompt of Debian arm64, in software"
    return [
        ratio(f"{name} / QEMU TCG", {"s": mine}, {"s in QEMU": other}, 2.0),
        plain(f"{name}, CPU of all its processes", worked, "s", 6.0),
    ]


def cpu_of_children() -> float:
    """Seconds, of those that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextlib.contextmanager
def qemu_at_prompt(command: list[str]) -> Iterator[float]:
    """Seconds from its start to the shell's prompt; then it is killed."""
    began = time.monotonic()
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        shown = b""
        try:
            while b"# " not in shown:
                piece = os.read(process.stdout.fileno(), 4096)
                if not piece or time.monotonic() - began > GUEST:
                    raise NotHere(f"QEMU does not boot it: {shown[-200:].decode(errors='replace')}")
                shown += piece
            yield time.monotonic() - began
        finally:
            process.kill()


def kernel(source: str, arch: str = "x86_64") -> LinuxKernel:
    try:
        return kernels.linux(source, arch, say=lambda text: None)
    except KernelError as error:
        raise NotHere(str(error)) from error


if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))  # tests.box

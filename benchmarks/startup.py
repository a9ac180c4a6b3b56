"""How long until a guest speaks, how long an import takes, how much memory the monitor process has."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from figures import Figure, NotHere, median, plain, ratio
from vmlab import VM, kernels

__all__ = ["import_time", "monitor_memory", "start_in_process", "start_to_first_byte"]

#: how the backing of guest memory is called in a process's mappings
GUEST_MEMORY = "vmlab-guest"
MIB = 1 << 20


def start_to_first_byte(rounds: int) -> list[Figure]:
    """From exec to the guest's first byte on standard output, as whole programs, in turns."""
    qemu = shutil.which("qemu-system-x86_64")
    if qemu is None:
        raise NotHere(
            "no qemu-system-x86_64 to compare with (Debian: apt-get install qemu-system-x86)"
        )
    image = str(kernels.path("hello"))
    ours = [vmlab_command(), "run", "hello", "--engine", "kvm", "--memory", "64M"]
    theirs = [
        *(qemu, "-M", "microvm,accel=kvm", "-m", "64M", "-nodefaults", "-no-user-config"),
        *("-display", "none", "-serial", "stdio", "-kernel", image),
        *("-device", "isa-debug-exit,iobase=0xf4,iosize=4"),
    ]
    for command in (ours, theirs):
        first_byte(command)  # once for the page cache
    mine, other = [], []
    for _ in range(rounds):
        other.append(first_byte(theirs) * 1000)
        mine.append(first_byte(ours) * 1000)
    return [
        ratio(
            "exec to first serial byte, `vmlab run hello` / QEMU microvm",
            {"ms": mine},
            {"ms in QEMU": other},
            3.0,
        )
    ]


def vmlab_command() -> str:
    """The command of the installation that this is."""
    path = Path(sys.executable).with_name("vmlab")
    if not path.exists():
        raise NotHere(f"{path} is missing: run this with .venv/bin/python (make bench)")
    return str(path)


def first_byte(command: Sequence[str], timeout: float = 30) -> float:
    """Seconds from starting `command` to the first byte that it writes."""
    began = time.perf_counter()
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            ready, _, _ = select.select([process.stdout], [], [], timeout)
            took = time.perf_counter() - began
            if not ready or not os.read(process.stdout.fileno(), 1):
                process.kill()
                said = process.stderr.read().decode(errors="replace").strip()
                raise NotHere(f"{command[0]} wrote nothing within {timeout:g} s: {said}")
            process.communicate(timeout=5)  # both end by themselves
        finally:
            process.kill()
    return took


def start_in_process(
    engine: str, rounds: int, target: float, kernel: str = "hello", arch: str = "x86_64"
) -> list[Figure]:
    """`VM(...).start()` to the console's first byte, in an interpreter that has done it before."""
    samples = []
    for number in range(rounds + 1):
        began = time.perf_counter()
        vm = VM(kernel, engine=engine, memory="64M", arch=arch)
        try:
            vm.start()
            vm.console.expect(re.compile(".", re.DOTALL), timeout=30)
            took = time.perf_counter() - began
        finally:
            vm.stop()
        if number:
            samples.append(took * 1000)
    what = engine if arch == "x86_64" else f"{kernel} on {arch}, {engine}"
    return [plain(f"VM(...).start() to first console byte, {what}", samples, "ms", target)]


def import_time(rounds: int) -> list[Figure]:
    """What an import takes in a fresh interpreter, less the same interpreter importing nothing.

    `import vmlab` alone loads its parts when they are asked for; the second figure has asked."""
    figures = []
    for statement, target in (("import vmlab", 60), ("from vmlab import VM", None)):
        imported, bare = [], []
        for _ in range(rounds):
            bare.append(wall([sys.executable, "-c", "pass"]))
            imported.append(wall([sys.executable, "-c", statement]))
        added = [above - below for above, below in zip(imported, bare, strict=True)]
        figure = plain(f"{statement}, less the bare interpreter", added, "ms", target)
        figure.of = {"with": median(imported), "without": median(bare)}
        figures.append(figure)
    return figures


def wall(command: Sequence[str]) -> float:
    """Milliseconds that `command` takes."""
    began = time.perf_counter()
    subprocess.run(command, check=True)
    return (time.perf_counter() - began) * 1000


def monitor_memory(engine: str) -> list[Figure]:
    """What the monitor process has in memory beyond its guest's, while the guest runs."""
    if not Path("/proc/self/smaps").exists():
        raise NotHere("memory is read from /proc/PID/smaps, which this system has not")
    before = descendants(os.getpid())
    with VM(kernel="monitor", engine=engine, memory="64M") as vm:
        vm.console.expect(re.compile(".", re.DOTALL), timeout=30)
        time.sleep(0.3)
        added = [pid for pid in descendants(os.getpid()) if pid not in before]
        sizes = [memory_beyond_guest(pid) for pid in added]
    if not sizes:
        raise NotHere("no process was started: is isolate off?")
    resident, private = (sum(column) / MIB for column in zip(*sizes, strict=True))
    figure = Figure(f"monitor process beyond guest memory, {engine}", resident, "MiB", 45)
    figure.of = {"processes": len(sizes), "MiB resident": resident, "MiB private": private}
    return [figure]


def descendants(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text().split()):
                found += [child, *descendants(child)]
    return found


def memory_beyond_guest(pid: int) -> tuple[int, int]:
    """(resident, private) bytes of all mappings but guest memory."""
    resident = private = 0
    counts = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        word, _, rest = line.partition(" ")
        if not word.endswith(":"):
            counts = GUEST_MEMORY not in rest
        elif counts and word == "Rss:":
            resident += 1024 * int(rest.split()[0])
        elif counts and word in ("Private_Clean:", "Private_Dirty:"):
            private += 1024 * int(rest.split()[0])
    return resident, private

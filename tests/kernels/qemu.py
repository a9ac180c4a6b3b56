"""The guest kernels under QEMU's microvm, the machine that they share with vmlab."""

from __future__ import annotations

import os
import re
import select
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from tests.support import require_program

__all__ = ["PROMPT", "Guest", "run"]

PROMPT = "vmlab> "
#: seconds; a boot takes a tenth of one, a loaded host much longer
PATIENCE = 30.0


class Guest:
    """A running QEMU: what it printed, what is typed into it, the status that it ends with."""

    def __init__(
        self,
        image: Path,
        *,
        accel: str = "tcg",
        cmdline: str = "",
        cpus: int = 1,
        devices: Sequence[str] = (),
    ) -> None:
        """`devices`: more arguments for QEMU. It then adds each virtio device to the command line."""
        machine = "microvm,rtc=on,pit=on,pic=on" + (",acpi=off" if devices else "")
        command = [require_program("qemu-system-x86_64"), "-nodefaults", "-no-user-config"]
        command += ["-M", machine, "-accel", accel, "-m", "64"]
        command += ["-smp", str(cpus), "-kernel", str(image), "-append", cmdline]
        command += ["-display", "none", "-serial", "stdio", "-no-reboot"]
        command += ["-device", "isa-debug-exit,iobase=0xf4,iosize=0x4"]
        command += ["-global", "virtio-mmio.force-legacy=false", *devices]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self._unread = ""

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def send(self, text: str) -> None:
        self._pipe(self._process.stdin).write(text.encode("latin-1"))

    def expect(self, pattern: str) -> str:
        """What was printed up to the end of the first match of `pattern`, and is now read."""
        deadline = time.monotonic() + PATIENCE
        while not (match := re.search(pattern, self._unread)):
            fresh = self._read(deadline)
            assert fresh, f"no {pattern!r} in {self._unread!r}"
            self._unread += fresh
        seen, self._unread = self._unread[: match.end()], self._unread[match.end() :]
        return seen

    def ask(self, command: str) -> str:
        """The monitor's answer to a command, without the echo and the next prompt."""
        self.send(command + "\r")
        return self.expect(PROMPT).partition("\r\n")[2].removesuffix(PROMPT)

    def finish(self) -> tuple[int, str]:
        """QEMU's exit status and the rest of the output."""
        deadline = time.monotonic() + PATIENCE
        while fresh := self._read(deadline):
            self._unread += fresh
        return self._process.wait(PATIENCE), self._unread

    def _read(self, deadline: float) -> str:
        out = self._pipe(self._process.stdout)
        ready, _, _ = select.select([out], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"nothing for {PATIENCE:g} s after {self._unread!r}"
        return os.read(out.fileno(), 65536).decode("latin-1")

    @staticmethod
    def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
        assert pipe is not None
        return pipe


def run(image: Path, *, accel: str = "tcg", cmdline: str = "", cpus: int = 1) -> tuple[int, str]:
    """Boot a kernel that ends by itself: QEMU's exit status and all that it printed."""
    with Guest(image, accel=accel, cmdline=cmdline, cpus=cpus) as guest:
        return guest.finish()

"""The box itself: QEMU, and a line to what runs inside.

The line is a second serial port, which QEMU joins to a socket: messages are JSON, one a line, both ways.
The first port is the console; it goes to a file, whose end explains what went wrong.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.box import arm64, image
from tests.support import PACKAGES
from vmlab.errors import VmlabError

__all__ = ["Box", "BoxError", "Message"]

Message = dict[str, Any]
#: for its system, which is no disk but memory, and two guests
MEMORY = "2G"
#: without XSAVE: QEMU does not tell KVM there of XSETBV, and its guests find their CPUID inconsistent
CPU = "max,xsave=off"
QEMU = "qemu-system-x86_64"
#: lines of the console that a failure shows
TAIL = 30
#: quiet, and without what is slow or fails on a busy host: mitigations, self-tests, a look at the timers
CMDLINE = (
    "console=ttyS0 quiet panic=-1 mitigations=off cryptomgr.notests tsc=reliable no_timer_check"
)


class BoxError(Exception):
    """Why there is no box, or no more. missing: something is not installed here."""

    def __init__(self, text: str, missing: bool = False) -> None:
        super().__init__(text)
        self.missing = missing


class Kind(NamedTuple):
    """qemu: the program; machine: its arguments for the machine, and where the line ends there, but for what
    every box has."""

    qemu: str
    machine: tuple[str, ...]
    cmdline: str


KINDS = {
    "x86_64": Kind(
        QEMU,
        ("-M", "q35,usb=off", "-accel", "tcg", "-cpu", CPU, "-smp", "1", "-m", MEMORY),
        CMDLINE,
    ),
    # EL2 for KVM; one serial port, so that what is no message is the console's
    "arm64": Kind(
        "qemu-system-aarch64",
        ("-M", "virt,virtualization=on,gic-version=3", "-cpu", "max", "-smp", "1", "-m", MEMORY),
        "console=ttyAMA0 quiet panic=-1 mitigations=off cryptomgr.notests",
    ),
}


class Box:
    """A running box."""

    def __init__(
        self,
        run: Sequence[str],
        variables: Mapping[str, str] | None = None,
        programs: Iterable[Path] = (),
        kind: str = "x86_64",
    ) -> None:
        """run, variables: the command inside and its environment; programs: of the host, to be there too (of
        x86_64 alone); kind: of KINDS."""
        qemu, machine, cmdline = KINDS[kind]
        # setpriv: QEMU is killed when this process is, however that ends
        for name in (qemu, "setpriv", "ldd"):
            if shutil.which(name) is None:
                raise BoxError(
                    f"{name} is not installed (Debian: {PACKAGES.get(name, name)})", True
                )
        self.folder = Path(tempfile.mkdtemp(prefix="vmlab-box-"))
        self._unread = b""
        try:
            if kind == "arm64":
                kernel, self._initrd = arm64.build(self.folder, run, variables or {})
            else:
                kernel, self._initrd = image.build(self.folder, run, variables or {}, programs)
        except (VmlabError, OSError) as error:
            shutil.rmtree(self.folder)
            raise BoxError(str(error), missing=isinstance(error, VmlabError)) from error
        self._log = self.folder / "console"
        self._line, theirs = socket.socketpair()
        command = ["setpriv", "--pdeathsig", "KILL", qemu, "-nodefaults", "-no-user-config"]
        command += [*machine, "-kernel", str(kernel), "-initrd", str(self._initrd)]
        command += ["-append", cmdline, "-display", "none", "-no-reboot"]
        if kind != "arm64":
            command += ["-serial", f"file:{self._log}"]
        command += ["-chardev", f"socket,id=line,fd={theirs.fileno()}", "-serial", "chardev:line"]
        with theirs, (self.folder / "qemu").open("wb") as said:
            self._qemu = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                pass_fds=[theirs.fileno()],
            )

    @property
    def pid(self) -> int:
        return self._qemu.pid

    @property
    def cpu_time(self) -> float:
        """Seconds that the emulated CPU has worked: what a busy host does not stretch."""
        facts = (
            Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        )
        return (int(facts[11]) + int(facts[12])) / os.sysconf("SC_CLK_TCK")

    def send(self, message: Message) -> None:
        """What a dead box does not hear shows in the next `receive`."""
        with contextlib.suppress(OSError):
            self._line.sendall(json.dumps(message).encode() + b"\n")

    def receive(self, timeout: float) -> Message:
        """The next message. BoxError when none comes in time, the box has ended, or says what is wrong."""
        deadline = time.monotonic() + timeout
        while not self._has_message():
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._line], [], [], left)[0]:
                raise BoxError(f"the box said nothing for {timeout:.0f} s{self._end()}")
            try:
                fresh = self._line.recv(1 << 16)
            except OSError:
                fresh = b""
            if not fresh:
                raise BoxError(f"the box ended by itself{self._end()}")
            self._unread += fresh
        line, _, self._unread = self._unread.partition(b"\n")
        try:
            message: Message = json.loads(line)
        except ValueError:
            raise BoxError(f"the box does not make sense: {line[:200]!r}{self._end()}") from None
        # QEMU has read it; a folder that a killed session leaves shall be small
        self._initrd.unlink(missing_ok=True)
        if "trouble" in message:
            raise BoxError(f"{message['trouble']}{self._end()}")
        return message

    def _has_message(self) -> bool:
        """What is no message is the console's, where both come by the same line."""
        while b"\n" in self._unread and not self._unread.lstrip(b"\r").startswith(b"{"):
            line, _, self._unread = self._unread.partition(b"\n")
            with self._log.open("ab") as log:
                log.write(line + b"\n")
        return b"\n" in self._unread

    def _end(self) -> str:
        """The last that the console and QEMU said."""
        told = "".join(
            (self.folder / name).read_text(encoding="utf-8", errors="replace")
            for name in ("console", "qemu")
            if (self.folder / name).exists()
        )
        lines = [line.rstrip() for line in told.splitlines() if line.strip()]
        return "".join(f"\n    {line}" for line in ["; its console:", *lines[-TAIL:]])

    def close(self) -> None:
        self._qemu.kill()
        self._qemu.wait()
        self._line.close()
        shutil.rmtree(self.folder, ignore_errors=True)

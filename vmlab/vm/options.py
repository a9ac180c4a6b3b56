"""What a VM is asked for, made ready: `VM(kernel, memory=, devices=, ...)`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vmlab import kernels
from vmlab.arch import DEFAULT, machine
from vmlab.core.cmdline import Cmdline
from vmlab.core.log import Log
from vmlab.core.units import parse_path, parse_size
from vmlab.errors import ConfigError
from vmlab.linux.kernel import LinuxKernel
from vmlab.machine.config import MachineConfig
from vmlab.vm.board import Placed
from vmlab.vm.copies import AnyDevice

__all__ = ["Guest", "check_files", "complete", "file_of", "firmware_of", "memory_of", "named"]

log = Log(__name__)

#: the least memory that a machine may have
MEBIBYTE = 1 << 20


def memory_of(asked: str | int) -> int:
    """Bytes; a number that lacks its unit is asked for it."""
    size = parse_size(asked)
    if 0 < size < MEBIBYTE:
        number = size if isinstance(asked, int) else str(asked).strip()
        hint = f'; did you mean "{number}M"?' if str(number).isdigit() else ""
        raise ConfigError(
            f"memory={asked!r} is {size} bytes, too small: a machine needs 1 MiB{hint}"
        )
    return size


def named(
    devices: Sequence[AnyDevice | Placed] | Mapping[str, AnyDevice | Placed],
) -> list[tuple[str | None, AnyDevice | Placed]]:
    """(id or None, device) of each that is wanted."""
    if isinstance(devices, Mapping):
        return list(devices.items())
    asked: Any = devices
    if isinstance(asked, (str, bytes)) or not isinstance(asked, Iterable):
        raise ConfigError(f"devices={asked!r:.60}: give a list of them, devices=[...]")
    return [(None, device) for device in asked]


class Guest(NamedTuple):
    """What is booted, all of it found. usual: the memory that it is comfortable with; slots: see
    `LinuxKernel`."""

    kernel: str
    initrd: str | os.PathLike[str] | None
    cmdline: str
    usual: str
    slots: int
    arch: str
    machine: str | None = None


def complete(
    kernel: str | os.PathLike[str] | LinuxKernel,
    initrd: str | os.PathLike[str] | None,
    cmdline: str,
    arch: str | None,
    board: str | None = None,
) -> Guest:
    """A Linux brings its own. arch: the machine's; None: the one that the kernel is for. board: its name;
    None: the usual one."""
    wanted = None if arch is None else machine(arch, board).name
    if kernel == kernels.LINUX:
        kernel = kernels.linux(arch=wanted)
    if isinstance(kernel, LinuxKernel):
        line = f"{kernel.cmdline} {cmdline}".strip()
        image, initrd = str(kernels.find(kernel.kernel)), initrd or kernel.initrd
        found = machine(wanted or kernel.arch, board)
        return Guest(image, initrd, line, kernel.memory, kernel.slots, found.name, board)
    image = str(kernels.find(kernel, wanted or DEFAULT))
    if wanted is None and kernel not in kernels.names():
        from vmlab.boot.kind import arch_of  # only here: most machines are asked for, or usual

        wanted = arch_of(image)
    found = machine(wanted or DEFAULT, board)
    return Guest(image, initrd, cmdline, found.usual_memory, 0, found.name, board)


def file_of(what: str, path: str | os.PathLike[str] | None) -> str | None:
    """Where it is, whatever folder the monitor works in. what: the argument that it was given as."""
    if path is None:
        return None
    return str(Path(os.path.expanduser(parse_path(what, path))).absolute())


def firmware_of(said: str | os.PathLike[str] | None) -> str | None:
    """A file, found as others are, or a word that stands for none."""
    return str(said) if said in ("none", "sbi") else file_of("firmware", said)


def check_files(config: MachineConfig) -> None:
    """Say now, not at `start`, that a command line is too long, or that an image cannot be booted."""
    Cmdline(text=config.cmdline)
    warning = config.platform.check_files(config.kernel, config.initrd, config.memory)
    config.read_firmware()
    if config.dtb is not None:
        from vmlab.boot.image import read_tree  # only here: few machines have one

        read_tree(config.dtb)
    if warning:
        log.warning("%s: %s", config.kernel, warning)

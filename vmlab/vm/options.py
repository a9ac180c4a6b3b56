"""What a VM is asked for, made ready: `VM(kernel, memory=, devices=, ...)`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vmlab import kernels
from vmlab.core.units import parse_size
from vmlab.errors import ConfigError
from vmlab.linux.kernel import LinuxKernel
from vmlab.vm.copies import AnyDevice

__all__ = ["check_place", "complete", "memory_of", "named"]

#: the least memory that a machine may have
MEBIBYTE = 1 << 20


def memory_of(asked: str | int) -> int:
    """Bytes; a number that lacks its unit is asked for it."""
    size = parse_size(asked)
    if 0 < size < MEBIBYTE:
        number = size if isinstance(asked, int) else str(asked).strip()
        hint = f'; did you mean "{number}M"?' if str(number).isdigit() else ""
        raise ConfigError(f"memory={asked!r} is {size} bytes, too small: a PC needs 1 MiB{hint}")
    return size


def named(
    devices: Sequence[AnyDevice] | Mapping[str, AnyDevice],
) -> list[tuple[str | None, AnyDevice]]:
    """(id or None, device) of each that is wanted."""
    if isinstance(devices, Mapping):
        return list(devices.items())
    asked: Any = devices
    if isinstance(asked, (str, bytes)) or not isinstance(asked, Iterable):
        raise ConfigError(f"devices={asked!r:.60}: give a list of them, devices=[...]")
    return [(None, device) for device in asked]


def complete(
    kernel: str | os.PathLike[str] | LinuxKernel,
    initrd: str | os.PathLike[str] | None,
    cmdline: str,
) -> tuple[str | os.PathLike[str], str | os.PathLike[str] | None, str, str, int]:
    """Kernel, initrd, command line, usual memory and slots; a Linux brings its own."""
    if kernel == kernels.LINUX:
        kernel = kernels.linux()
    if not isinstance(kernel, LinuxKernel):
        return kernel, initrd, cmdline, "64M", 0
    line = f"{kernel.cmdline} {cmdline}".strip()
    return kernel.kernel, initrd or kernel.initrd, line, kernel.memory, kernel.slots


def check_place(at: object, irq: object) -> None:
    for name, value, most in (("at", at, 1 << 64), ("irq", irq, 1 << 16)):
        if value is None:
            continue
        if type(value) is not int or not 0 <= value < most:
            raise ConfigError(f"{name}={value!r}: it must be a whole number, 0 or more")

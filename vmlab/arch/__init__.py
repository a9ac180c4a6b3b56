"""Architectures by name. Where it is not said otherwise, "arch" is the guest's, never the host's."""

from __future__ import annotations

import platform

from vmlab.errors import ConfigError

__all__ = ["DEFAULT", "NAMES", "canonical", "host"]

#: what systems, packages and compilers call them, in lower case -> vmlab's name
NAMES = {
    "x86_64": "x86_64",
    "amd64": "x86_64",
    "x86-64": "x86_64",
    "x64": "x86_64",
    "arm64": "arm64",
    "aarch64": "arm64",
    "riscv64": "riscv64",
    "riscv32": "riscv32",
}
#: a guest's, unless it is said
DEFAULT = "x86_64"


def canonical(name: str) -> str:
    """vmlab's name of the architecture that somebody calls `name`; ConfigError for none that it knows."""
    try:
        return NAMES[name.lower()]
    except KeyError:
        known = ", ".join(sorted(set(NAMES.values())))
        raise ConfigError(f"no architecture {name!r}; there are {known}") from None


def host() -> str:
    """The architecture of the machine that this runs on; what its system calls it, where vmlab knows none."""
    machine = platform.machine()
    return NAMES.get(machine.lower(), machine)

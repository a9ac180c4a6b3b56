"""Architectures: what differs between processors. "arch" is the guest's, unless the host's is said."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from vmlab.errors import ConfigError
from vmlab.hints import unknown

if TYPE_CHECKING:
    from vmlab.arch.api import Arch

__all__ = ["DEFAULT", "HOMES", "NAMES", "boards", "canonical", "get", "host", "machine"]

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
#: name -> the module whose ARCH it is
HOMES = {name: f"vmlab.arch.{name}" for name in ("x86_64", "arm64", "riscv64", "riscv32")}


def canonical(name: str) -> str:
    """vmlab's name of the architecture that somebody calls `name`; ConfigError for none that it knows."""
    if name in HOMES:
        return name
    try:
        return NAMES[name.lower()]
    except KeyError:
        known = ", ".join(sorted(set(NAMES.values())))
        raise ConfigError(f"no architecture {name!r}; there are {known}") from None


def get(arch: str | Arch) -> Arch:
    """The architecture of that name, or the one that is given; ConfigError for what there is none of."""
    if not isinstance(arch, str):
        if not hasattr(arch, "windows"):
            raise ConfigError(f"arch={arch!r:.60}: give an architecture's name")
        return arch
    name = canonical(arch)
    if name not in HOMES:
        raise ConfigError(f"vmlab knows {name} by its name alone; there are {', '.join(HOMES)}")
    found: Arch = import_module(HOMES[name]).ARCH
    return found


def machine(arch: str | Arch, board: str | None = None) -> Arch:
    """As `get`, of which there is a machine: with the board of that name, or (None) the usual one.

    ConfigError, which says what there is, for a board that the architecture does not have."""
    found = get(arch)
    if not isinstance(arch, str):
        assert found.board  # what only windows are known of says what is missing
        return found
    there = boards(found.name)
    if not there:
        assert found.board  # as above
    if board is None:
        return next(iter(there.values()), found)
    if board not in there:
        owners = [name for name in HOMES if board in boards(name)]
        more = f"; {', '.join(owners)} has a {board!r}" if owners else ""
        raise ConfigError(f"{found.name}: {unknown('machine', board, there)}{more}")
    return there[board]


def boards(arch: str) -> dict[str, Arch]:
    """name -> the architecture with that board; the usual one first."""
    return getattr(import_module(HOMES[canonical(arch)]), "BOARDS", {})


def host() -> str:
    """The architecture of the machine that this runs on; what its system calls it, where vmlab knows none."""
    import platform  # only here: it is large, and most machines do not ask

    machine = platform.machine()
    return NAMES.get(machine.lower(), machine)

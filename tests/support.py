"""What a test needs from the host, asked for in one way.

    qemu = require_program("qemu-system-x86_64")
    capstone = require_module("capstone")
    require_kvm()

What is missing skips the test and says what to install. With VMLAB_REQUIRE_ALL=1 it fails the test
instead, since it could have been installed. /dev/kvm alone cannot be: it always skips, loudly.
"""

from __future__ import annotations

import errno
import functools
import importlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest

__all__ = [
    "NO_KVM",
    "PACKAGES",
    "ROOT",
    "forget_inheritance",
    "kernel_image",
    "kvm_missing",
    "require_kvm",
    "require_module",
    "require_program",
]

ROOT = Path(__file__).resolve().parent.parent
#: folders of tools, where git does not say what is ours
NOT_OURS = {".git", ".venv", "node_modules", "build", "dist", "htmlcov", "artifacts"}
IMAGES = ROOT / "kernels" / "images"
#: how every reason begins that the host's missing /dev/kvm causes
NO_KVM = "NO /dev/kvm HERE"

#: program -> the Debian package that holds it, where the names differ
PACKAGES = {
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu",
    "aarch64-linux-gnu-ld": "binutils-aarch64-linux-gnu",
    "cc": "gcc",
    "iasl": "acpica-tools",
    "ld": "binutils",
    "ld.lld": "lld",
    "objcopy": "binutils",
    "objdump": "binutils",
    "qemu-system-aarch64": "qemu-system-arm",
    "qemu-system-riscv64": "qemu-system-misc",
    "qemu-system-x86_64": "qemu-system-x86",
    "riscv64-linux-gnu-gcc": "gcc-riscv64-linux-gnu",
    "riscv64-linux-gnu-ld": "binutils-riscv64-linux-gnu",
    "readelf": "binutils",
    "dtc": "device-tree-compiler",
    "ldd": "libc-bin",
    "setpriv": "util-linux",
}
#: module -> the distribution that holds it, where the names differ
DISTRIBUTIONS = {"elftools": "pyelftools"}


def forget_inheritance() -> None:
    """Put right what whoever started the tests has passed on, and they to what they start: signals that
    are ignored (nohup, a shell's `&`) or blocked, a umask, a stream that is closed, no terminal's name,
    a language whose messages they do not expect."""
    for number, handler in (
        (signal.SIGHUP, signal.SIG_DFL),
        (signal.SIGTERM, signal.SIG_DFL),
        (signal.SIGQUIT, signal.SIG_DFL),
        (signal.SIGCHLD, signal.SIG_DFL),
        (signal.SIGINT, signal.default_int_handler),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(0o022)
    for fd, mode in enumerate((os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)):
        try:
            os.fstat(fd)
        except OSError:  # the lowest that is free is this one
            os.set_inheritable(os.open(os.devnull, mode), True)
    os.environ.setdefault("TERM", "dumb")
    for name in [name for name in os.environ if name.startswith("LC_") or name == "LANGUAGE"]:
        del os.environ[name]
    os.environ["LANG"] = "C.UTF-8"


def tree() -> Iterator[Path]:
    """Every file of the tree that is not made by a tool: what git knows or would take."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        files = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        files = [
            path
            for path in ROOT.rglob("*")
            if not any(
                part in NOT_OURS or part.endswith(("_cache", "__pycache__"))
                for part in path.relative_to(ROOT).parts
            )
        ]
    return (path for path in sorted(files) if path.is_file())


def require_program(name: str) -> str:
    """The path of the program `name`; without it the test is skipped."""
    path = shutil.which(name)
    if path is None:
        _missing(f"{name} is not installed (Debian: apt-get install {PACKAGES.get(name, name)})")
    return path


def require_module(name: str) -> ModuleType:
    """The module `name`; without it the test is skipped."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise  # it is there, but broken: that is no reason to skip
        top = name.partition(".")[0]
        _missing(f"Python module {name} is missing (pip install {DISTRIBUTIONS.get(top, top)})")


def require_kvm() -> None:
    """Skip where /dev/kvm does not open, even under VMLAB_REQUIRE_ALL: no package brings it."""
    why = kvm_missing()
    if why:
        pytest.skip(why)


@functools.cache
def kvm_missing() -> str:
    """Why /dev/kvm cannot be used here; "" when it can."""
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        hint = {
            errno.ENOENT: "the host offers no KVM, or its module is not loaded",
            errno.EACCES: "not permitted: join the group kvm",
            errno.EPERM: "not permitted: the container must be given the device",
        }.get(error.errno, "it exists, but does not open")  # type: ignore[arg-type]
        return f"{NO_KVM}: {error.strerror} ({hint})"
    return ""


def kernel_image(name: str) -> Path:
    """The built image of a guest kernel in `kernels/`. They are committed: a missing one is a failure."""
    path = IMAGES / f"{name}.elf"
    if not path.is_file():
        pytest.fail(f"{path} is missing: run `make kernels`", pytrace=False)
    return path


def _missing(reason: str) -> NoReturn:
    if os.environ.get("VMLAB_REQUIRE_ALL") == "1":
        pytest.fail(f"{reason}; VMLAB_REQUIRE_ALL=1 allows no skip for it", pytrace=False)
    pytest.skip(reason)

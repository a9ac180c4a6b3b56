"""`get`: a Linux to boot, from the cache or fetched into it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from vmlab import arch as architectures
from vmlab.errors import ConfigError, KernelError
from vmlab.linux import cache, debian, initramfs, krun
from vmlab.linux.kernel import LinuxKernel

__all__ = ["get"]

#: a release of Debian's may follow: debian-trixie
_SOURCE = re.compile(r"(debian)(?:-([a-z]+))?|(krun)")
#: changes with what a folder of the cache holds
LAYOUT = 1
#: libkrun's kernel has no ACPI: as many windows as there are lines on a PC; on arm64 the first three are the
#: machine's own
_SLOTS = {"x86_64": 11, "arm64": 19}
#: a kernel of Debian's finds windows by ACPI, and on RISC-V by the device tree, which names them beforehand
_DEBIAN_SLOTS = {"riscv64": 8}
#: Quiet, for a serial line is slow; without what makes an emulated CPU slow and guards nothing here:
#: mitigations of other CPUs' faults, self-tests of the crypto code.
_USUAL = "quiet panic=-1 mitigations=off"
#: On a PC there is no PCI to look for, a CPU that reports no faults of its own would be complained of, and
#: the clock's driver of krun's kernel would keep line 8, which a device has here.
_CMDLINES = {
    ("debian", "x86_64"): f"console=ttyS0 {_USUAL} cryptomgr.notests"
    " initcall_blacklist=pci_arch_init,mcheck_init_device",
    ("debian", "arm64"): f"console=ttyAMA0 {_USUAL} cryptomgr.notests",
    ("debian", "riscv64"): f"console=ttyS0 {_USUAL} cryptomgr.notests",
    ("krun", "x86_64"): f"console=hvc0 {_USUAL} initcall_blacklist=cmos_init",
    ("krun", "arm64"): f"console=ttyAMA0 {_USUAL}",
}
#: what a file begins with, where
_MAGIC = {
    "x86_64": ((0x202, b"HdrS"), (0, b"\x7fELF")),
    "arm64": ((0x38, b"ARMd"), (0, b"\x7fELF")),
    "riscv64": ((0x30, b"RISCV"), (0, b"\x7fELF")),
}


def get(
    source: str = "debian",
    arch: str | None = None,
    fetch: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> LinuxKernel:
    """The Linux of `source` ("debian", "debian-trixie" and so on, "krun") for guests of `arch` ("x86_64",
    "arm64", and of Debian "riscv64"; x86_64 if None, whatever the host is).

    fetch=False: KernelError when the cache has none. say: told what takes long."""
    known = _SOURCE.fullmatch(str(source))
    if known is None:
        raise ConfigError(
            f"no source {source!r} of Linux kernels; there are debian (or with a release's name, as"
            " debian-trixie) and krun"
        )
    family = known[1] or known[3]
    arch = architectures.get(arch or architectures.DEFAULT).name
    if arch not in _MAGIC:
        raise ConfigError(f"no Linux for {arch!r}; there is one for {', '.join(sorted(_MAGIC))}")
    if (family, arch) not in _CMDLINES:
        raise ConfigError(f"the source {family} has no Linux for {arch}; debian has one")
    folder = cache.cache_root() / "linux" / f"{source}-{arch}"
    facts = _known(folder)
    if facts is None:
        if not fetch:
            raise KernelError(
                f"no Linux in {folder} yet: run `vmlab fetch linux --source {source} --arch {arch}`"
            )
        with cache.alone():
            facts = _known(folder)  # another process may just have fetched it
            if facts is None:
                say(f"fetching Linux ({source}, {arch}) into {folder}")
                facts = _fetch(folder, family, arch, known[2] or "")
    names = [one["file"] for one in facts.get("packages", [])] or [facts.get("library", "")]
    return LinuxKernel(
        kernel=folder / "kernel",
        initrd=initramfs.cached(folder, facts),
        cmdline=_CMDLINES[family, arch],
        arch=arch,
        source=source,
        slots=_SLOTS[arch] if family == "krun" else _DEBIAN_SLOTS.get(arch, 0),
        origin=f"{source}: {', '.join(names)}",
    )


def _known(folder: Path) -> cache.Manifest | None:
    facts = cache.verify(folder)
    return facts if facts and facts.get("layout") == LAYOUT else None


def _fetch(folder: Path, family: str, arch: str, release: str) -> cache.Manifest:
    state = cache.cache_root() / "apt" / arch
    with cache.fresh_folder(folder) as made:
        if family == "debian":
            facts = debian.download(state, made, arch, release=release)
        else:
            facts = krun.download(made, arch)
            facts["packages"] = [
                *facts.get("packages", []),
                *debian.download(state, made, arch, kernel=False)["packages"],
            ]
        _check(made / "kernel", _MAGIC[arch], 4 << 20)
        _check(made / "busybox", ((0, b"\x7fELF"),), 200 << 10)
        initramfs.keep_needed(made / "modules")
        return cache.complete(made, facts | {"arch": arch, "layout": LAYOUT})


def _check(path: Path, magic: tuple[tuple[int, bytes], ...], least: int) -> None:
    """KernelError unless the file is as large as such files are, and begins as they do."""
    with path.open("rb") as file:
        head = file.read(0x400)
    if path.stat().st_size < least or not any(head[at:].startswith(one) for at, one in magic):
        raise KernelError(
            f"{path.name}: {path.stat().st_size} bytes that begin {head[:4].hex(' ')}: not what was"
            " asked for; nothing was kept"
        )

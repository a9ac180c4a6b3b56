"""libkrun's guest kernel, out of the libkrunfw in a wheel. The library is read, never run.

Such a library has a raw image, its load address and its entry; an ELF file around them makes it an image
like any other.
"""

from __future__ import annotations

import struct
import sys
import zipfile
from pathlib import Path

from vmlab.errors import KernelError
from vmlab.linux import krunfw
from vmlab.linux.cache import Manifest, digest, program

__all__ = ["as_elf", "download", "extract"]

#: a distribution whose wheels carry libkrunfw: the version that was tried
DISTRIBUTION = "microsandbox==0.7.11"
_MEMBER = "libkrunfw.so"
#: x86_64 Linux is linked here, whatever it is loaded at (x86_64 mm.rst, START_KERNEL_map); arm64's raw Image
#: is told by its header
_KERNEL_MAP = {"x86_64": 0xFFFF_FFFF_8000_0000, "arm64": 0}
_MACHINES = {"x86_64": 62, "arm64": 183}
#: its wheels: for which platform, and their SHA-256
_WHEELS = {
    "x86_64": (
        "manylinux_2_28_x86_64",
        "65f1e4bbf8d721c9f7f557329fb6c8cf41f554c1c6942eac8b941198fa283fe0",
    ),
    "arm64": (
        "manylinux_2_28_aarch64",
        "f774a5ff6e61c5b88c42b3e058967c0b989c26d8a51c2b09f1e6a00be925b9c0",
    ),
}


def extract(path: str) -> tuple[int, int, bytes]:
    """(load address, entry, raw image) of the kernel in the library at `path`, which is read, not run."""
    return krunfw.extract(Path(path).read_bytes(), path)


def as_elf(load: int, entry: int, image: bytes, arch: str = "x86_64") -> bytes:
    """An ELF64 executable of one segment."""
    start = 0x1000
    head = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    head += struct.pack(
        "<HHIQQQIHHHHHH", 2, _MACHINES[arch], 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    head += struct.pack(
        "<IIQQQQQQ", 1, 7, start, _KERNEL_MAP[arch] + load, load, len(image), len(image), 0x1000
    )
    return head.ljust(start, b"\0") + image


def download(folder: Path, arch: str) -> Manifest:
    """Put `kernel` into `folder`; where it came from."""
    platform, hashed = _WHEELS[arch]
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{DISTRIBUTION} --hash=sha256:{hashed}\n", encoding="utf-8")
    program(
        [
            *(
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--dest",
                str(folder),
            ),
            *("--disable-pip-version-check", "--only-binary=:all:", "--platform", platform),
            *("--require-hashes", "--requirement", str(wanted)),
        ],
        f"the wheel {DISTRIBUTION}, which carries libkrunfw, cannot be downloaded (are you online?)",
    )
    wheel = next(folder.glob("*.whl"))
    facts: Manifest = {
        "source": "krun",
        "packages": [{"file": wheel.name, "sha256": digest(wheel)}],
    }
    library = folder / "libkrunfw.so"
    with zipfile.ZipFile(wheel) as archive:
        member = next((one for one in archive.namelist() if _MEMBER in one), None)
        if member is None:
            raise KernelError(f"{wheel.name} carries no {_MEMBER}; a newer one may lie elsewhere")
        library.write_bytes(archive.read(member))
    (folder / "kernel").write_bytes(as_elf(*extract(str(library)), arch))
    for one in (library, wheel, wanted):
        one.unlink()
    return facts

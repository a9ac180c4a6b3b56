"""What the arm64 box boots: Debian's arm64 kernel, which has KVM built in, and an initramfs with Debian's
Python and the packages that tests import.

The kernel, the packages and the wheels come as a guest's Linux does, and are kept in vmlab's cache; this
repository is added for each boot, as for the other box.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shlex
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.box import image
from tests.support import ROOT
from vmlab import kernels
from vmlab.linux import cache, debian
from vmlab.linux.cpio import Archive

__all__ = ["PYTHON", "build"]

HERE = Path(__file__).resolve().parent
PYTHON = Path("/usr/bin/python3")
PACKAGES = Path("/usr/lib/python3/dist-packages")
#: Debian's, with what it depends on
WANTED = "python3"
#: what the tests there import
DISTRIBUTIONS = (
    *("pytest", "pluggy", "iniconfig", "packaging", "pygments", "pytest-timeout"),
    *("cloudpickle", "msgspec", "psutil"),
)
#: of a package's files
UNUSED = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/lintian",
    "usr/share/perl",
)


def build(folder: Path, run: Sequence[str], variables: Mapping[str, str]) -> tuple[Path, Path]:
    """(kernel, initramfs) of a box that runs the command `run` in this repository's folder, `variables` in
    its environment. The caller removes `folder`. KernelError says what is missing."""
    linux = kernels.linux("debian", "arm64", say=lambda text: None)
    initrd = folder / "initrd"
    with initrd.open("wb") as file:
        file.write(_system(linux.kernel.parent / "busybox"))
        file.write(_session(run, variables, folder / "bytecode"))
    return linux.kernel, initrd


# --- the part that is kept ------------------------------------------------------------------------------


def _system(busybox: Path) -> bytes:
    versions = {name: importlib.metadata.version(name) for name in DISTRIBUTIONS}
    recipe = hashlib.sha256(Path(__file__).read_bytes() + (HERE / "init.sh").read_bytes())
    recipe.update(repr(versions).encode())
    place = cache.cache_root() / "box"
    target = place / f"arm64-{recipe.hexdigest()[:12]}.cpio"
    if not target.exists():
        with cache.alone(), cache.fresh_folder(place / "arm64-parts") as parts:
            for package in _debian(parts):
                cache.program(["dpkg-deb", "-x", package, parts / "root"], "the arm64 box")
            for wheel in _wheels(parts, versions):
                with zipfile.ZipFile(wheel) as archive:
                    archive.extractall(parts / "root" / PACKAGES.relative_to("/"))
            made = _base(busybox, parts / "root")
            for old in place.glob("arm64-*.cpio"):
                old.unlink(missing_ok=True)
            cache.keep(target, made)
    return target.read_bytes()


def _debian(parts: Path) -> list[Path]:
    apt = debian.Apt(cache.cache_root() / "apt" / "arm64", "arm64")
    apt.update()
    plan = cache.program(
        ["apt-get", *apt._options, "-s", "--no-install-recommends", "install", WANTED],
        "the arm64 box",
    )
    names = [line.split()[1] for line in plan.splitlines() if line.startswith("Inst ")]
    return apt.load(names, parts)


def _wheels(parts: Path, versions: Mapping[str, str]) -> list[Path]:
    """For Debian's Python, of the versions that are installed here."""
    command: list[str | os.PathLike[str]] = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        parts,
    ]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--implementation", "cp"]
    command += ["--python-version", "3.11"]
    for kind, names in (
        ("platform", ("manylinux2014_aarch64", "manylinux_2_17_aarch64", "manylinux_2_28_aarch64")),
        ("abi", ("cp311", "abi3", "none")),
    ):
        command += [word for name in names for word in (f"--{kind}", name)]
    cache.program(
        [*command, *(f"{name}=={one}" for name, one in versions.items())], "the arm64 box"
    )
    return sorted(parts.glob("*.whl"))


def _base(busybox: Path, root: Path) -> bytes:
    archive = Archive()
    for name in ("dev", "proc", "sys", "tmp"):
        archive.folder(name)
    archive.node("dev/console", 5, 1)
    archive.file("bin/busybox", busybox.read_bytes(), 0o755)
    archive.link("bin/sh", "busybox")
    archive.file("init", (HERE / "init.sh").read_bytes(), 0o755)
    archive.file("box/order", b"")
    for path in sorted(_files(root)):
        name = str(path.relative_to(root))
        if path.is_symlink():
            archive.link(name, os.readlink(path))
        else:
            archive.file(name, path.read_bytes(), path.stat().st_mode & 0o777)
    return archive.finish()


def _files(root: Path) -> Iterator[Path]:
    for place, _, names in os.walk(root):
        if not Path(place).relative_to(root).as_posix().startswith(UNUSED):
            yield from (Path(place, name) for name in names)


# --- the part of each session ---------------------------------------------------------------------------


def _session(run: Sequence[str], more: Mapping[str, str], bytecode: Path) -> bytes:
    archive = Archive()
    files = image.repository(bytecode)
    guest = kernels.linux("debian", "arm64", say=lambda text: None).kernel.parent
    files |= {path: path for path in guest.rglob("*") if path.is_file()}
    image.add(archive, files)
    variables = {
        "PYTHONPATH": f"{ROOT}:{PACKAGES}",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "XDG_CACHE_HOME": str(cache.cache_root().parent),
        "LANG": "C.UTF-8",
        "PATH": "/bin:/sbin:/usr/bin:/usr/sbin",
        **more,
    }
    lines = [f"cd {shlex.quote(str(ROOT))}"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    archive.file("box/run", "\n".join([*lines, shlex.join(run), ""]).encode())
    return archive.finish()

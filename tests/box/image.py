"""What the box boots: a Debian kernel, and an initramfs that holds all of the system.

The initramfs is two archives, one behind the other. The first is kept in vmlab's cache: busybox, the KVM
modules, the interpreter with the packages that tests import, and the shared libraries of all of them; its
name tells what went in. The second is small and made for each boot: this repository, and the Linux that
guests boot. Everything lies where it lies on the host, with its times, so compiled modules stay valid
and tracebacks read the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import py_compile
import re
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tests.support import ROOT
from vmlab import kernels
from vmlab.errors import KernelError
from vmlab.linux import cache, debian, initramfs
from vmlab.linux.cpio import Archive

__all__ = ["PYTHON", "add", "build", "repository"]

HERE = Path(__file__).resolve().parent
PYTHON = Path(sys.executable).resolve()
#: what must be loaded; what it needs comes along
MODULES = ("kvm_amd",)
#: what the tests there import, as far as it is installed here
DISTRIBUTIONS = (
    *("pytest", "pluggy", "iniconfig", "packaging", "pygments", "pytest-timeout"),
    *("cloudpickle", "msgspec", "psutil", "lz4", "unicorn", "zstandard"),
)
#: programs that tests run, as far as they are installed here
PROGRAMS = ("mke2fs", "e2fsck", "debugfs")
#: the Linux of guests
SOURCES = ("debian", "krun")
#: of this repository
PARTS = ("vmlab", "tests", "benchmarks", "kernels/images", "pyproject.toml")
#: folders that no test in the box needs: of the standard library, of the packages, of this repository
UNUSED = frozenset(
    [
        "test",
        "tests",
        "idlelib",
        "tkinter",
        "turtledemo",
        "lib2to3",
        "ensurepip",
        "site-packages",
        "dist-packages",
    ]
)
UNUSED_HERE = frozenset(("notebook", "browser"))


def build(
    folder: Path,
    run: Sequence[str],
    variables: Mapping[str, str],
    programs: Iterable[Path] = (),
) -> tuple[Path, Path]:
    """(kernel, initramfs) of a box that runs the command `run` in this repository's folder, `variables` in
    its environment. programs: the host's that are to be there as well. The caller removes `folder`.

    KernelError says what is missing."""
    if platform.machine() != "x86_64":
        raise KernelError(f"the box has an x86_64 CPU, and this host is {platform.machine()}")
    linux = _linux()
    initrd = folder / "initrd"
    with initrd.open("wb") as file:
        with _system(linux, list(programs)).open("rb") as system:
            shutil.copyfileobj(system, file)
        file.write(_session(run, variables, folder / "bytecode"))
    return linux / "kernel", initrd


def _linux() -> Path:
    """A kernel with KVM's modules, which the guests' comes without."""
    folder = cache.cache_root() / "box" / "linux"
    with cache.alone():
        if cache.verify(folder) is None:
            with cache.fresh_folder(folder) as made:
                facts = debian.download(cache.cache_root() / "apt" / "x86_64", made, "x86_64")
                initramfs.keep_needed(made / "modules", MODULES)
                cache.complete(made, facts)
    return folder


# --- the part that is kept --------------------------------------------------------------------------


def _system(linux: Path, programs: list[Path]) -> Path:
    """The archive for these ingredients; those of others are removed when it is built."""
    files = dict(_python_files())
    tools = (shutil.which(name) for name in PROGRAMS)
    files |= {path: path.resolve() for path in (*programs, *(Path(one) for one in tools if one))}
    recipe = hashlib.sha256(Path(__file__).read_bytes() + (HERE / "init.sh").read_bytes())
    recipe.update((linux / "manifest.json").read_bytes())
    for path, source in sorted(files.items()):
        facts = source.stat()
        recipe.update(f"{path} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    kind = "-".join(["system", *(path.name for path in programs)])
    target = linux.parent / f"{kind}-{recipe.hexdigest()[:12]}.cpio"
    if not target.exists():
        for path in _libraries(list(files.values())):
            files[path] = path.resolve()
        fresh = target.with_name(f".{target.name}-{os.getpid()}")
        fresh.write_bytes(_base(linux, files))
        for old in target.parent.glob(f"{kind}-{'?' * 12}.cpio"):
            old.unlink(missing_ok=True)
        fresh.replace(target)
    return target


def _base(linux: Path, files: dict[Path, Path]) -> bytes:
    archive = Archive()
    for name in ("dev", "proc", "sys", "tmp"):
        archive.folder(name)
    archive.node("dev/console", 5, 1)
    archive.file("bin/busybox", (linux / "busybox").read_bytes(), 0o755)
    archive.link("bin/sh", "busybox")
    archive.file("init", (HERE / "init.sh").read_bytes(), 0o755)
    names = []
    for path in initramfs.order(linux / "modules", MODULES):
        names.append(path.name.partition(".")[0])
        archive.file(f"box/{names[-1]}.ko", initramfs.unpacked(path))
    archive.file("box/order", "".join(f"{name}\n" for name in names).encode())
    add(archive, files)
    return archive.finish()


def _python_files() -> Iterator[tuple[Path, Path]]:
    """(where it goes, where it is) for the interpreter, its library and the packages."""
    yield PYTHON, PYTHON
    folders = [Path(sysconfig.get_path("stdlib"))]
    for name in DISTRIBUTIONS:
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        tops = {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
        folders += [Path(str(distribution.locate_file(top))) for top in sorted(tops)]
    for folder in folders:
        for path in _tree(folder, UNUSED):
            yield path, path


def _tree(folder: Path, unused: frozenset[str]) -> Iterator[Path]:
    """The files there, of compiled modules only this interpreter's; `folder` may be a file itself."""
    if folder.is_file():
        yield folder
    tag = sys.implementation.cache_tag
    for place, folders, names in os.walk(folder):
        folders[:] = [one for one in folders if one not in unused and not one.startswith("config-")]
        for name in names:
            if name.endswith(".a"):
                continue
            if not name.endswith(".pyc") or re.search(rf"\.{tag}(-pytest-[\d.]+)?\.pyc$", name):
                yield Path(place, name)


def _libraries(files: list[Path]) -> set[Path]:
    """The shared libraries that the dynamic loader finds for these files."""
    elf = [
        path for path in files if (".so" in path.name or os.access(path, os.X_OK)) and _is_elf(path)
    ]
    told = cache.program(["ldd", *elf], "the box")
    return {Path(one) for one in re.findall(r"(?:=> |^\t)(/\S+) \(0x", told, re.MULTILINE)}


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def add(archive: Archive, files: Mapping[Path, Path]) -> None:
    for path, source in sorted(files.items()):
        facts = source.stat()
        archive.file(str(path), source.read_bytes(), facts.st_mode & 0o777, int(facts.st_mtime))


# --- the part of each session -----------------------------------------------------------------------


def _session(run: Sequence[str], more: Mapping[str, str], bytecode: Path) -> bytes:
    archive = Archive()
    files = repository(bytecode)
    guests = cache.cache_root() / "linux"
    for source in SOURCES:
        with contextlib.suppress(KernelError):  # who boots it there says what is missing
            kernels.linux(source, "x86_64", say=lambda text: None)
    files |= {path: path for path in _tree(guests, frozenset())}
    add(archive, files)
    variables = {
        "LD_LIBRARY_PATH": ":".join(sorted({str(path.parent) for path in _libraries([PYTHON])})),
        "PYTHONPATH": ":".join(
            (str(ROOT), *{sysconfig.get_path(one) for one in ("purelib", "platlib")})
        ),
        "PYTHONUNBUFFERED": "1",
        "XDG_CACHE_HOME": str(guests.parent.parent),
        "LANG": "C.UTF-8",
        "PATH": "/bin:/sbin:/usr/bin:/usr/sbin",
        **more,
    }
    lines = [f"cd {shlex.quote(str(ROOT))}"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    archive.file("box/run", "\n".join([*lines, shlex.join(run), ""]).encode())
    return archive.finish()


def repository(bytecode: Path) -> dict[Path, Path]:
    """Where each of this repository's files goes -> where it is; `bytecode`: a folder for what is
    compiled."""
    files = {path: path for part in PARTS for path in _tree(ROOT / part, UNUSED_HERE)}
    return files | _compiled([path for path in files if path.suffix == ".py"], bytecode)


def _compiled(sources: list[Path], folder: Path) -> dict[Path, Path]:
    """Bytecode in `folder` for the modules that have none, or an old one, beside them: in the box it would
    take each process as long as all else."""
    files = {}
    for number, source in enumerate(sources):
        kept = Path(importlib.util.cache_from_source(str(source)))
        if not kept.exists() or kept.stat().st_mtime < source.stat().st_mtime:
            fresh = folder / str(number)
            py_compile.compile(str(source), str(fresh), doraise=True)
            files[kept] = fresh
    return files

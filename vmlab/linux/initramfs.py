"""The small system that guests boot into: busybox, the virtio modules, and an init of ours."""

from __future__ import annotations

import hashlib
import lzma
import re
from collections.abc import Iterable
from pathlib import Path

from vmlab.arch import DEFAULT, boards
from vmlab.errors import KernelError
from vmlab.linux import cache
from vmlab.linux.cpio import Archive

__all__ = ["MODULES", "applets", "build", "cached", "keep_needed", "order", "unpacked"]

#: what is loaded, where it is no part of the kernel itself; what these need comes along
MODULES: tuple[str, ...] = (
    *("virtio_mmio", "virtio_blk", "virtio_net", "virtio_rng", "virtio_console"),
    *("button", "evdev"),
)
_HERE = Path(__file__).resolve().parent
#: how busybox's table of names begins, and a name in it
_FIRST = b"[\0[[\0"
_APPLET = re.compile(rb"([a-z0-9_.+\[-]{1,32})\0")
_SUFFIX = re.compile(r"\.ko(\.xz|\.zst|\.gz)?$")


def cached(folder: Path, facts: cache.Manifest) -> Path:
    """The archive for the `busybox` and the `modules` in `folder`, beside them; built when what it is
    built with (the files of this folder) has changed, which its name tells, or when it is not what the
    manifest `facts` says."""
    recipe = hashlib.sha256()
    for path in sorted(_HERE.glob("*")):
        if path.name in ("initramfs.py", "cpio.py") or path.suffix == ".sh":
            recipe.update(path.read_bytes())
    target = folder / f"initramfs-{recipe.hexdigest()[:12]}"
    known = facts.get("built", {})
    if not cache.matches(target, known.get(target.name)):
        busybox, modules = (folder / "busybox").read_bytes(), folder / "modules"
        arch = facts.get("arch", DEFAULT)
        image = build(busybox, modules if modules.exists() else None, applets(busybox), arch)
        with cache.writing(folder):
            cache.keep(target, image)
            cache.note(folder, facts | {"built": known | {target.name: cache.describe(target)}})
    return target


def keep_needed(folder: Path, wanted: Iterable[str] = MODULES) -> None:
    """Of a kernel's modules keep the wanted ones and those they need; `folder` need not be there."""
    if not folder.exists():
        return
    needed = set(order(folder, wanted))
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path not in needed and path.name != "modules.builtin":
            path.unlink()


def applets(busybox: bytes) -> list[str]:
    """The commands that it has, read from its table of names: a sorted row of them, each with a NUL. None
    where it has no such table. It is for the guest: nobody runs it here."""
    at = busybox.find(_FIRST)
    names = [""]
    while at >= 0 and (found := _APPLET.match(busybox, at)) and found[1].decode() > names[-1]:
        names.append(found[1].decode())
        at = found.end()
    return [name for name in names[1:] if name != "busybox"]


def build(
    busybox: bytes, modules: Path | None, applets: Iterable[str] = (), arch: str = DEFAULT
) -> bytes:
    """The archive. modules: a folder as `/lib/modules/VERSION`; None: the kernel has it all. applets:
    busybox's commands, which its shell knows without, but other programs want to find. arch: the
    machine's."""
    archive = Archive()
    for name in ("dev", "proc", "sys", "tmp", "mnt", "run", "root"):
        archive.folder(name)
    # the kernel opens it for init, before anything is mounted
    archive.node("dev/console", 5, 1)
    archive.file("bin/busybox", busybox, 0o755)
    for name in sorted({"sh", *applets}):
        archive.link(f"bin/{name}", "busybox")
    archive.file("init", (_HERE / "init.sh").read_bytes(), 0o755)
    for name in ("console.sh", "root.sh", "slot.sh", "watch.sh"):
        archive.file(f"lib/vmlab/{name}", (_HERE / name).read_bytes(), 0o755)
    there = list(boards(arch).values())
    # the first window of each board that it may find itself on
    windows = " ".join(sorted({f"{one.windows.first:#x}" for one in there}))
    facts = f"controller={there[0].hotplug:#x}\nwindows='{windows}'\n"
    archive.file("lib/vmlab/machine", facts.encode())
    names = []
    for path in order(modules) if modules is not None else ():
        name = _module_name(path)
        names.append(name)
        archive.file(f"lib/vmlab/{name}.ko", unpacked(path))
    archive.file("lib/vmlab/order", "".join(f"{name}\n" for name in names).encode())
    return archive.finish()


def order(folder: Path, wanted: Iterable[str] = MODULES) -> list[Path]:
    """The modules' files, each behind those that it needs. What the kernel has built in is left out."""
    files = {
        _module_name(path): path for path in folder.rglob("*.ko*") if _SUFFIX.search(path.name)
    }
    built_in = {_module_name(Path(line)) for line in _text(folder / "modules.builtin").splitlines()}
    done: dict[str, Path] = {}

    def visit(name: str) -> None:
        if name in done or name in built_in:
            return
        if name not in files:
            raise KernelError(f"{folder}: no module {name}, and it is not built in")
        for needed in needs(unpacked(files[name])):
            visit(needed)
        done[name] = files[name]

    for name in wanted:
        visit(name)
    return list(done.values())


def needs(module: bytes) -> list[str]:
    """The modules that one depends on, as its .modinfo says."""
    found = re.search(rb"\0depends=([^\0]*)\0", module)
    return [_plain(one) for one in found[1].decode("ascii").split(",") if one] if found else []


def _module_name(path: Path) -> str:
    return _plain(_SUFFIX.sub("", path.name))


def _plain(name: str) -> str:
    """Files are called with a hyphen or an underscore, modules with an underscore."""
    return name.replace("-", "_")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def unpacked(path: Path) -> bytes:
    """What is in a module's file, which may be compressed."""
    data = path.read_bytes()
    if path.name.endswith(".xz"):
        return lzma.decompress(data)
    if path.name.endswith((".zst", ".gz")):
        raise KernelError(f"{path}: compressed in a way that is not supported here")
    return data

"""Guest kernels: those that come with vmlab, `kernels.path("hello")`, and Linux, `kernels.linux()`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from vmlab.arch import DEFAULT, HOMES, canonical
from vmlab.errors import KernelError
from vmlab.hints import meant, unknown

if TYPE_CHECKING:
    from vmlab.linux.kernel import LinuxKernel

__all__ = ["LINUX", "about", "arches", "find", "is_bundled", "linux", "names", "path"]

#: the name that stands for `linux()`, beside the bundled kernels'
LINUX = "linux"

_ABOUT = {
    "hello": "prints a line and exits",
    "irqlab": "counts timer interrupts, prints each, exits after n",
    "monitor": "a small shell on the serial line: peek, poke, devices, irqs, fault, ...",
    "smp": "starts the second CPU and counts",
}


def _images() -> Path:
    """In an installed package the images lie inside it; in a source tree, beside it."""
    here = Path(__file__).resolve().parent
    inside = here / "images"
    return inside if inside.is_dir() else here.parent / "kernels" / "images"


def _folder(arch: str) -> Path:
    """Those of x86_64 lie in no folder of their own: there were no others."""
    return _images() if arch == DEFAULT else _images() / arch


def names(arch: str = DEFAULT) -> list[str]:
    """The bundled kernels' names, for `VM(kernel=...)`."""
    return sorted(image.stem for image in _folder(canonical(arch)).glob("*.elf"))


def arches() -> list[str]:
    """The architectures that there are bundled kernels for."""
    return sorted(name for name in HOMES if names(name))


def about(name: str) -> str:
    """One line on what the kernel does."""
    return _ABOUT.get(name, "")


def path(name: str, arch: str = DEFAULT) -> Path:
    """The image of the bundled kernel `name` for that architecture; KernelError names those that exist."""
    arch = canonical(arch)
    if name not in names(arch):
        what = "bundled kernel" if arch == DEFAULT else f"bundled kernel for {arch}"
        raise KernelError(unknown(what, name, names(arch)))
    return _folder(arch) / f"{name}.elf"


def linux(
    source: str = "debian",
    arch: str | None = None,
    fetch: bool = True,
    say: Callable[[str], None] = print,
) -> LinuxKernel:
    """A Linux with a small system, for `VM(kernel=...)`: from the cache, or fetched into it.

    source: "debian" (its cloud kernel, by apt-get, no root; "debian-trixie": of that release) or "krun"
    (libkrun's kernel, out of a wheel). arch: the guest's, "x86_64" (None), "arm64" or, of Debian, "riscv64".
    fetch=False: only what the cache has. say: told when something is fetched. KernelError, with what to do,
    when it cannot be had."""
    from vmlab.linux.guest import get

    return get(source, arch, fetch, say)


def is_bundled(kernel: str | os.PathLike[str]) -> bool:
    """Whether that is one of the bundled kernels, by name or by path."""
    if os.fspath(kernel) in names():
        return True
    try:
        return _images().resolve() in find(kernel).parents
    except KernelError:
        return False


def find(kernel: str | os.PathLike[str], arch: str = DEFAULT) -> Path:
    """The file for what a person typed: a path, or the name of a bundled kernel, for `arch`.

    A name with a slash or a dot is a path; so is one that no bundled kernel has. KernelError when
    there is no such file."""
    if not isinstance(kernel, (str, os.PathLike)):
        raise KernelError(
            f"kernel={kernel!r:.60}: give a bundled kernel's name ({', '.join(names())}) or an image's path"
        )
    text = os.fspath(kernel)
    if text in names() or text in names(arch):
        return path(text, arch)
    try:
        return _file(text)
    except (OSError, RuntimeError, ValueError) as error:
        # a folder on the way that may not be entered, a name too long, an unknown ~user, a NUL
        why = error.strerror if isinstance(error, OSError) else error
        raise KernelError(f"kernel {text!r}: {why}") from error


def _file(text: str) -> Path:
    file = Path(text).expanduser()
    if not file.exists():
        hint = "" if "/" in text or "." in text else f"; bundled kernels: {', '.join(names())}"
        near = "" if "/" in text else meant(text.removesuffix(".elf"), [*names(), LINUX])
        hint = f"; did you mean {near!r}?{hint and f' ({hint[2:]})'}" if near else hint
        raise KernelError(f"kernel {text!r}: no such file{hint}")
    if file.is_dir():
        inside = _images() / f"{file.resolve().name}.elf"
        if file.resolve().parent == inside.parent.parent.resolve() and inside.exists():
            return inside.resolve()
        raise KernelError(f"kernel {text!r} is a folder, not an image")
    return file.resolve()

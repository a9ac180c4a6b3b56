"""`vmlab doctor`: what this host can do, and how to change it."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from vmlab import __version__, engine, kernels
from vmlab.core import bus, dispatch, irq
from vmlab.core.host import HOST
from vmlab.errors import EngineUnavailable

__all__ = ["Finding", "examine", "findings", "trap_path"]


class Finding(NamedTuple):
    """ok: None says "for your information"."""

    what: str
    ok: bool | None
    text: str


def findings() -> list[Finding]:
    found = [
        Finding("vmlab", None, f"{__version__}, Python {platform.python_version()}"),
        Finding("host", None, f"{platform.system()} {platform.release()}, {platform.machine()}"),
        Finding("memory", None, f"{HOST.total_memory() >> 20} MiB, {os.cpu_count()} CPUs"),
    ]
    for name in engine.ENGINES:
        works, why = engine.available(name)
        found.append(Finding(f"engine {name}", works, why))
        if works and name == "kvm":
            enough, why = engine.runs_linux(name)
            found.append(Finding("kvm and Linux", enough, why if not enough else "it runs Linux"))
    try:
        chosen, why = engine.choose()
        found.append(Finding("engine auto", True, f"{chosen}: {why}"))
    except EngineUnavailable as error:
        found.append(Finding("engine auto", False, str(error)))
    found.append(trap_path())
    images = kernels.names()
    found.append(
        Finding(
            "kernels",
            bool(images),
            ", ".join(images) or "none: the package is incomplete; install it again",
        )
    )
    found.append(_try_a_guest())
    packages = ("unicorn", "ipywidgets", "anywidget", "matplotlib", "jupyterlab")
    return found + [_package(name) for name in packages]


def trap_path() -> Finding:
    """Whether what every access goes through is machine code (`make compiled`), and of these sources."""
    compiled = [Path(module.__file__ or "") for module in (bus, dispatch, irq)]
    compiled = [path for path in compiled if path.suffix != ".py"]
    if not compiled:
        return Finding("trap path", None, "pure Python (in a clone: make compiled)")
    sources = [path.with_name(path.name.partition(".")[0] + ".py") for path in compiled]
    if any(
        source.stat().st_mtime > path.stat().st_mtime
        for source, path in zip(sources, compiled, strict=True)
        if source.exists()
    ):
        return Finding("trap path", False, "compiled of older sources: make compiled, or make pure")
    return Finding("trap path", None, "compiled")


def _try_a_guest() -> Finding:
    """The proof of the pudding: `hello` in a monitor process."""
    from vmlab.errors import VmlabError
    from vmlab.vm import VM

    try:
        with VM(kernel="hello") as vm:
            vm.console.expect("Hello", timeout=10)
            return Finding("a guest", True, f"hello ran on {vm.engine}")
    except VmlabError as error:
        return Finding("a guest", False, str(error))


def _package(name: str) -> Finding:
    extra = "soft" if name == "unicorn" else "lab"
    try:
        return Finding(name, None, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Finding(name, None, f"not installed (pip install 'vmlab[{extra}]')")


def examine() -> int:
    """Print the findings; 0 when a guest can run here."""
    marks = {True: "yes", False: "NO", None: " - "}
    found = findings()
    for one in found:
        print(f"{one.what:<14}{marks[one.ok]:<5}{one.text}")
    return 0 if any(one.what == "a guest" and one.ok for one in found) else 1

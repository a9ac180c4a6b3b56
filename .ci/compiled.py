"""The trap path as machine code: mypyc compiles the very modules that run as Python otherwise.

`make compiled` runs this file in a clone: the libraries come to lie beside their sources. As the hook of
hatchling (pyproject.toml; HATCH_BUILD_HOOK_ENABLE_CUSTOM=1) it puts them into a wheel. It needs mypyc and a
C compiler.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

#: what every access goes through; each is as good uncompiled, and the tests run both ways
MODULES = (
    "vmlab/core/bus.py",
    "vmlab/core/dispatch.py",
    "vmlab/core/irq.py",
    "vmlab/engine/kvm/vcpu.py",
)
#: their common library, beside the package
GROUP = "vmlab"


def libraries(root: Path) -> list[Path]:
    """Those that are there, of any Python."""
    folders = [root, *{(root / module).parent for module in MODULES}]
    return sorted(path for folder in folders for path in folder.glob("*.cpython-*.so"))


def build(root: Path) -> list[Path]:
    """Compile in place; the libraries. What was there goes first: a build that fails leaves pure Python."""
    for path in libraries(root):
        path.unlink()
    with workshop(root):
        # setuptools must not read pyproject.toml, which is hatchling's: it looks in the present folder
        from mypyc.build import mypycify
        from setuptools import setup

        # what they import is looked at for its types, and checked by `make check`
        options = [f"--config-file={root / 'pyproject.toml'}", "--follow-imports=silent"]
        extensions = mypycify([*options, *MODULES], group_name=GROUP)
        setup(
            name="vmlab", ext_modules=extensions, script_args=["--quiet", "build_ext", "--inplace"]
        )
        for path in Path().glob("*.so"):
            shutil.copy(path, root)
    return libraries(root)


@contextlib.contextmanager
def workshop(root: Path) -> Iterator[None]:
    """A folder for what is left over, where the package is a link."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="vmlab-compiled-") as folder:
        (Path(folder) / "vmlab").symlink_to(root / "vmlab")
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


class CompiledHook(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        build_data["pure_python"], build_data["infer_tag"] = False, True
        for path in build(root):
            build_data["force_include"][str(path)] = str(path.relative_to(root))


if __name__ == "__main__":
    for library in build(Path(__file__).resolve().parent.parent):
        print(library.name)

"""The images under test: the committed ones, and what each compiler here makes of the source."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import IMAGES, ROOT, require_program

SOURCE = ROOT / "kernels"


def _clang() -> list[str]:
    """A clang is welcome, but not asked for: with gcc the images are known to build."""
    names = ["clang", *(f"clang-{version}" for version in range(30, 10, -1))]
    return [name for name in names if shutil.which(name)][:1]


def build(compiler: str, to: Path, source: Path = SOURCE, arch: str = "x86_64") -> Path:
    """Compile all kernels; the folder of the images."""
    lld = shutil.which(compiler.replace("clang", "ld.lld")) if "clang" in compiler else None
    images = to / "images"
    make = [require_program("make"), "-C", str(source), f"CC={require_program(compiler)}"]
    binutils = compiler.removesuffix("gcc") if compiler.endswith("-gcc") else ""
    make += [
        f"ARCH={arch}",
        f"LD={lld or require_program(binutils + 'ld')}",
        f"IMAGES={images}",
        f"BUILD={to / 'build'}",
    ]
    done = subprocess.run(make, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, "the kernels compile without a warning"
    return images


def build_guest(name: str, to: Path, compiler: str = "gcc", arch: str = "x86_64") -> Path:
    """Compile a guest of the tests' own, from the folder of that name here."""
    make = [require_program("make"), "-C", str(Path(__file__).parent / name), f"IMAGES={to}"]
    make += [f"BUILD={to}/build", f"COMMON_KERNELS={SOURCE}/common", f"ARCH={arch}"]
    make += [
        f"CC={require_program(compiler)}",
        f"LD={require_program(compiler.removesuffix('gcc') + 'ld')}",
    ]
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(make, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return to / f"{name}.elf"


#: of each architecture, where "gcc" is asked for
GCC = {
    "x86_64": "gcc",
    "arm64": "aarch64-linux-gnu-gcc",
    "riscv64": "riscv64-linux-gnu-gcc",
}
ORIGINS = ["committed", "gcc", *_clang()]
Built = Callable[[str, str], Path]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """(origin, architecture) -> a folder of images; each is compiled once."""

    @functools.cache
    def images(origin: str, arch: str) -> Path:
        if origin == "committed":
            return IMAGES if arch == "x86_64" else IMAGES / arch
        compiler = GCC[arch] if origin == "gcc" else origin
        return build(compiler, tmp_path_factory.mktemp(origin), SOURCE, arch)

    return images


@pytest.fixture(scope="session", params=ORIGINS)
def images(request: pytest.FixtureRequest, built: Built) -> Path:
    """A folder of images, one for each origin."""
    return built(request.param, "x86_64")

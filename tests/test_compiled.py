"""The trap path as mypyc makes it (`make compiled`): the same tests over the compiled modules."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support import ROOT, require_module, require_program

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

#: what meets the compiled modules most closely
TESTS = ("tests/core", "tests/engine/kvm", "tests/devices/test_conformance.py")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this tree, whose wheel was built with the hook: its modules are compiled in place as well."""
    require_module("mypyc")
    require_program("cc")
    place = tmp_path_factory.mktemp("compiled with spaces") / "vm lab"
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if not name.startswith(("notebooks/", "docs/", "kernels/src/")) and (ROOT / name).exists():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)
    run(place, "-m", "hatchling", "build", "-t", "wheel", "-d", "dist")
    return place


def run(place: Path, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=place,
        env=os.environ | {"PYTHONPATH": str(place), "HATCH_BUILD_HOOK_ENABLE_CUSTOM": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    return done.stdout


def test_the_wheel_has_them(tree: Path) -> None:
    (wheel,) = (tree / "dist").glob("*.whl")
    assert not wheel.name.endswith("-none-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    libraries = sorted(name.split(".")[0] for name in names if name.endswith(".so"))
    assert libraries == [
        "vmlab/core/bus",
        "vmlab/core/dispatch",
        "vmlab/core/irq",
        "vmlab/engine/kvm/vcpu",
        "vmlab__mypyc",
    ]
    # the sources go along: tracebacks show them, and another Python runs them
    assert {"vmlab/core/bus.py", "vmlab/engine/kvm/vcpu.py"} <= set(names)


def test_doctor_says_so(tree: Path) -> None:
    assert told(tree) == "compiled"
    os.utime(tree / "vmlab/core/bus.py")
    try:
        assert told(tree) == "compiled of older sources: make compiled, or make pure"
    finally:
        shutil.copystat(ROOT / "vmlab/core/bus.py", tree / "vmlab/core/bus.py")


def told(tree: Path) -> str:
    code = "from vmlab.cli import doctor; print(doctor.trap_path().text)"
    return run(tree, "-c", code).strip()


def test_the_same_tests_pass(tree: Path) -> None:
    said = run(tree, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *TESTS)
    assert " passed" in said


def test_what_is_older_than_its_source_goes(tree: Path, tmp_path: Path) -> None:
    for name in (".ci/prepare", "Makefile"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy2(ROOT / name, tmp_path / name)
    (tmp_path / "vmlab").mkdir()
    source = tmp_path / "vmlab" / "a.py"
    library = tmp_path / "vmlab" / "a.cpython-311-x86_64-linux-gnu.so"
    for path in (source, library):
        path.touch()
    (tmp_path / "vmlab__mypyc.cpython-311-x86_64-linux-gnu.so").touch()
    os.utime(source, (1, 1))
    assert dropped(tmp_path) == []
    os.utime(library, (0, 0))
    assert len(dropped(tmp_path)) == 2


def dropped(place: Path) -> Sequence[Path]:
    before = set(place.rglob("*.so"))
    script = 'sed -n "/^drop_stale/,/^}/p" .ci/prepare >part; say() { :; }; . ./part; drop_stale'
    subprocess.run(["bash", "-c", script], cwd=place, check=True)
    return sorted(before - set(place.rglob("*.so")))

"""CONTRIBUTING's recipes, followed to the letter in a copy of the tree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import ROOT, require_module, require_program, tree

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

STEP = re.compile(
    r"^\*\*`(?P<path>[^`]+)`\*\*(?:, (?:a line )?behind `(?P<behind>[^`]+)`)?[^\n]*(?:\n[^\n]+)*\n\n"
    r"(?P<text>(?:(?: {4}[^\n]*)?\n)+)",
    re.MULTILINE,
)


class Step(NamedTuple):
    """behind: the line that `text` follows as it is; "" for a new file."""

    path: str
    behind: str
    text: str


def recipe(name: str) -> list[Step]:
    whole = (ROOT / "CONTRIBUTING.md").read_text()
    _, _, rest = whole.partition(f"\n### {name}\n")
    text, _, _ = rest.partition("\n### ")
    return [
        Step(found["path"], found["behind"] or "", re.sub("(?m)^ {4}", "", found["text"]))
        for found in STEP.finditer(text)
    ]


def test_what_a_recipe_touches() -> None:
    assert [step.path for step in recipe("A register device")] == [
        "vmlab/devices/dice.py",
        "vmlab/catalogue.py",
        "tests/devices/test_dice.py",
    ]
    assert len(recipe("A virtio device")) == 3
    assert {step.path for step in recipe("A view")} == {
        "vmlab/notebook/frontend/src/kicks.js",
        "vmlab/notebook/kicks.py",
        "vmlab/vm/display.py",
        "vmlab/vm/vm.py",
        "tests/notebook/test_views_kicks.py",
    }


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the tree."""
    for path in tree():
        name = path.relative_to(ROOT)
        if name.parts[0] != "notebooks":
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, tmp_path / name)
    return tmp_path


def follow(copied: Path, name: str) -> None:
    for path, behind, text in recipe(name):
        file = copied / path
        if not behind:
            assert not file.exists(), path
            file.write_text(text.strip("\n") + "\n")
            continue
        lines = file.read_text().splitlines(keepends=True)
        [at] = [at for at, line in enumerate(lines) if line.rstrip("\n") == behind]
        lines.insert(at + 1, text.rstrip("\n") + "\n")
        file.write_text("".join(lines))


def run(copied: Path, *command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=copied,
        env={**os.environ, "PYTHONPATH": str(copied), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def check(copied: Path, *tests: str) -> None:
    run(copied, "ruff", "check", "--quiet", "vmlab", "tests")
    run(copied, "ruff", "format", "--check", "--quiet", "vmlab", "tests")
    run(copied, "pytest", "-q", "-p", "no:cacheprovider", *tests)


@pytest.mark.parametrize(
    ("name", "tests"),
    [
        ("A register device", ["tests/devices/test_dice.py", "tests/devices/test_conformance.py"]),
        ("A virtio device", ["tests/virtio/test_echo.py", "tests/virtio/test_conformance.py"]),
    ],
)
def test_a_device(copied: Path, name: str, tests: list[str]) -> None:
    for module in ("ruff", "hypothesis"):
        require_module(module)
    follow(copied, name)
    catalogue = (copied / "vmlab/catalogue.py").read_text()
    word = "dice" if "register" in name else "echo"
    assert f'    "{word}": ' in catalogue
    check(copied, *tests, "tests/test_catalogue.py", "-k", f"{word} or every_device")


def test_a_view(copied: Path) -> None:
    for module in ("ruff", "anywidget"):
        require_module(module)
    npm = require_program("npm")
    follow(copied, "A view")
    for arguments in (["ci"], ["run", "build"]):
        done = subprocess.run(
            [npm, *arguments],
            cwd=copied / "vmlab/notebook/frontend",
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr
    check(
        copied,
        "tests/notebook/test_views_kicks.py",
        "tests/notebook/test_views_bundles.py",
        *("-k", "kicks or each_view"),
    )

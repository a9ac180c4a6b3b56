"""CONTRIBUTING's recipes, followed to the letter in a copy of the tree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import ROOT, require_module, require_program

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

STEP = re.compile(
    r"^\*\*`(?P<path>[^`]+)`\*\*(?:, (?:a line )?behind `(?P<behind>[^`]+)`)?[^\n]*(?:\n[^\n]+)*\n\n"
    r"(?P<text>(?:(?: {4}[^\n]*)?\n)+)",
    re.MULTILINE,
)


class Step(NamedTuple):
    """behind: the line that `text` follows; "" for a new file."""

    path: str
    behind: str
    text: str


def recipe(name: str) -> list[Step]:
    whole = (ROOT / "CONTRIBUTING.md").read_text()
    _, _, rest = whole.partition(f"\n### {name}\n")
    text, _, _ = rest.partition("\n### ")
    return [
        Step(
            found["path"], found["behind"] or "", textwrap.dedent(found["text"]).strip("\n") + "\n"
        )
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
def tree(tmp_path: Path) -> Path:
    """A copy of what is committed, or would be."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a clone: what belongs to the tree is not known")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file() and not name.startswith("notebooks/"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def follow(tree: Path, name: str) -> None:
    for path, behind, text in recipe(name):
        file = tree / path
        if not behind:
            assert not file.exists(), path
            file.write_text(text)
            continue
        lines = file.read_text().splitlines(keepends=True)
        [at] = [at for at, line in enumerate(lines) if line.rstrip("\n") == behind]
        indent = behind[: len(behind) - len(behind.lstrip())] if "def " not in text else ""
        indent = "    " if behind.endswith("{") else indent
        lines.insert(at + 1, ("\n\n" if "def " in text else "") + textwrap.indent(text, indent))
        file.write_text("".join(lines))


def run(tree: Path, *command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def check(tree: Path, *tests: str) -> None:
    run(tree, "ruff", "check", "--quiet", "vmlab", "tests")
    run(tree, "ruff", "format", "--check", "--quiet", "vmlab", "tests")
    run(tree, "pytest", "-q", "-p", "no:cacheprovider", *tests)


@pytest.mark.parametrize(
    ("name", "tests"),
    [
        ("A register device", ["tests/devices/test_dice.py", "tests/devices/test_conformance.py"]),
        ("A virtio device", ["tests/virtio/test_echo.py", "tests/virtio/test_conformance.py"]),
    ],
)
def test_a_device(tree: Path, name: str, tests: list[str]) -> None:
    for module in ("ruff", "hypothesis"):
        require_module(module)
    follow(tree, name)
    catalogue = (tree / "vmlab/catalogue.py").read_text()
    word = "dice" if "register" in name else "echo"
    assert f'    "{word}": ' in catalogue
    check(tree, *tests, "tests/test_catalogue.py", "-k", f"{word} or every_device")


def test_a_view(tree: Path) -> None:
    for module in ("ruff", "anywidget"):
        require_module(module)
    npm = require_program("npm")
    follow(tree, "A view")
    for arguments in (["ci"], ["run", "build"]):
        done = subprocess.run(
            [npm, *arguments],
            cwd=tree / "vmlab/notebook/frontend",
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr
    check(
        tree,
        "tests/notebook/test_views_kicks.py",
        "tests/notebook/test_views_bundles.py",
        *("-k", "kicks or each_view"),
    )

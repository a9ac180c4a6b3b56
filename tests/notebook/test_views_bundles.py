"""The scripts that the views carry: built from what is committed, small, and asking nobody for anything."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT, require_program

NOTEBOOK = ROOT / "vmlab" / "notebook"
STATIC, FRONTEND = NOTEBOOK / "static", NOTEBOOK / "frontend"
NAMES = sorted(path.stem for path in (FRONTEND / "src").glob("*.js"))
LIMIT = 400_000


def test_there_is_one_for_each_view_and_no_more() -> None:
    assert len(NAMES) > 8
    assert sorted(one.name for one in STATIC.iterdir()) == sorted(f"{name}.js" for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_they_are_small_and_only_those_with_a_terminal_carry_one(name: str) -> None:
    text = (STATIC / f"{name}.js").read_text()
    assert len(text.encode()) <= LIMIT
    assert ("xterm" in text) == (name in ("console", "lab"))


@pytest.mark.parametrize("name", NAMES)
def test_they_ask_nobody_for_anything(name: str) -> None:
    text = (STATIC / f"{name}.js").read_text()
    # modules that are fetched, requests, style sheets that import or load
    assert not re.search(r"\bimport\s*\(|\bfetch\s*\(|XMLHttpRequest|@import|WebSocket", text)
    assert not re.search(r"\bfrom\s*[\"'](?:https?:)?//", text)
    hosts = set(re.findall(r"https?://([\w.-]+)", text))
    # the names of vocabularies, and notes of authorship
    assert hosts <= {
        "www.w3.org",
        "github.com",
        "invisible-island.net",
        "bellard.org",
        "opensource.org",
    }


def test_the_lock_file_names_no_server() -> None:
    lock = json.loads((FRONTEND / "package-lock.json").read_text())
    assert not [name for name, one in lock["packages"].items() if "resolved" in one]


@pytest.mark.slow
def test_they_are_what_is_built_from_the_source(tmp_path: Path) -> None:
    npm = require_program("npm")
    source = tmp_path / "frontend"
    shutil.copytree(FRONTEND, source, ignore=shutil.ignore_patterns("node_modules"))
    out = tmp_path / "static"
    for arguments in (["ci"], ["run", "build", "--", str(out)]):
        done = subprocess.run(
            [npm, *arguments], cwd=source, capture_output=True, text=True, timeout=110, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    for name in NAMES:
        assert (out / f"{name}.js").read_bytes() == (STATIC / f"{name}.js").read_bytes(), (
            f"{name}.js is not what its source gives: npm ci && npm run build in {FRONTEND.name}"
        )

"""The repository as a whole: its documents, its version, what the wheel carries, what it never names."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import vmlab
from tests.support import IMAGES, ROOT, require_module, tree

DOCUMENTS = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"]
#: folders of some builder's own machine; nothing that is shipped may know them
PLACES = re.compile(rb"(?<![\w.:-])/(?:work|root|tmp/v)/")


def version() -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return str(project["version"])


def test_the_version_is_one() -> None:
    assert vmlab.__version__ == version()
    assert f"## [{version()}]" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_documents_exist(name: str) -> None:
    assert len((ROOT / name).read_text()) > 200


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if name.endswith(".md")])
def test_their_links_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text()
    targets = re.findall(r"\]\(([^)#\s]+)", text)
    lost = [one for one in targets if "://" not in one and not (ROOT / one).exists()]
    assert not lost


def test_no_file_names_a_builders_machine() -> None:
    found = []
    for path in tree():
        if path.resolve() == Path(__file__).resolve() or path.stat().st_size > 8 << 20:
            continue
        found += [f"{path.relative_to(ROOT)}: {m[0]!r}" for m in PLACES.finditer(path.read_bytes())]
    assert not found


def test_the_wheel_carries_the_guest_images(tmp_path: Path) -> None:
    require_module("hatchling")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=60,
    )
    [wheel] = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"vmlab/images/{image.name}" for image in IMAGES.glob("*.elf")} <= names
    assert "vmlab/py.typed" in names
    assert not {name for name in names if name.startswith(("tests", "kernels", "benchmarks"))}

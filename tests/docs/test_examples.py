"""What the documents say runs, what the reference lists is all that is public, and what is drawn is there."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.support import ROOT, require_module

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [
    ROOT / "README.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if "generated" not in path.parts),
]


def script(page: Path) -> str:
    """Its Python, in its order. What boots a Linux takes more than a moment, and tests/linux does that."""
    blocks = [block for block in BLOCK.findall(page.read_text()) if "kernels.linux" not in block]
    return "\n".join(blocks)


WITH_CODE = [page for page in PAGES if script(page) and page.name != "linux.md"]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_its_python_runs(page: Path, tmp_path: Path) -> None:
    require_module("unicorn")
    done = subprocess.run(
        [sys.executable, "-c", script(page)],
        cwd=tmp_path,
        env={**os.environ, "VMLAB_ENGINE": "soft", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_pages_with_code() -> None:
    assert len(WITH_CODE) >= 8


@pytest.fixture
def generate(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    return importlib.import_module("generate")


def test_the_reference_has_a_page_for_each_public_name(generate: ModuleType) -> None:
    pages = generate.pages()
    for module in ("vmlab", "vmlab.virtio", "vmlab.testing", "vmlab.errors"):
        for name in importlib.import_module(module).__all__:
            assert f"reference/{module}.{name}.md" in pages
    index = pages["reference/index.md"].splitlines()
    named = [path[len("reference/") : -3] for path in pages if path.startswith("reference/")]
    assert {name for name in named if name != "index"} <= set(index)


def test_every_register_is_in_it(generate: ModuleType) -> None:
    text = generate.registers()
    tables = generate.tables()
    assert {
        "uart16550",
        "timer",
        "hot-plug",
        "virtio-mmio",
        "i8042",
        "pl011",
        "pl031",
        "pl061",
    } <= tables.keys()
    for name, table in tables.items():
        _, _, section = text.partition(f"\n## {name}\n")
        section = section.partition("\n## ")[0]
        for row in table.table:
            assert f"| {row.offset:#04x} | `{row.name}` |" in section, (name, row.name)
            for field in row.fields:
                assert f"`{field}` " in section


def test_the_command_line_is_its_parsers(generate: ModuleType) -> None:
    text = generate.command()
    for word in ("## vmlab run\n", "## vmlab doctor\n", "--debug-exit", "--timeout SECONDS"):
        assert word in text


def test_what_is_drawn_is_there(generate: ModuleType) -> None:
    draw = importlib.import_module("draw")
    for stop in draw.stops():
        if stop.name:
            found: object = None
            parts = stop.name.split(".")
            for at in range(len(parts), 0, -1):
                try:
                    found = importlib.import_module(".".join(parts[:at]))
                except ModuleNotFoundError:
                    continue
                for part in parts[at:]:
                    found = getattr(found, part)
                break
            assert found is not None, stop.name
    house = draw.house()
    here = {path.name.removesuffix(".py") for path in (ROOT / "vmlab").iterdir()}
    for name in here - {"__init__", "__pycache__", "py.typed", "images"}:
        assert f"vmlab.{name}<" in house, name

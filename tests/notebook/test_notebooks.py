"""The tutorial notebooks: run as they are stored, on both engines, and fit to be stored."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.linux.conftest import fetched
from tests.support import require_module
from vmlab.engine import runs_linux

HERE = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(HERE.glob("[0-9]*.ipynb"))
GLOSSARY = HERE / "glossary.ipynb"
TITLES = [
    "01-first-vm",
    "02-address-map-and-traps",
    "03-interrupts",
    "04-write-a-device",
    "05-virtio-from-the-ring-up",
    "06-hot-plug",
    "07-when-guests-misbehave",
    "08-measuring",
    "09-linux",
    "10-two-machines",
    "11-write-a-driver",
    "12-your-kernel",
]
#: boots a Linux
LINUX = HERE / "09-linux.ipynb"
#: seconds, as in notebooks/execute.py: Linux boots in three, in a hundred on a very busy host
CELL_TIMEOUT = 180
IGNORED = "nbval-ignore-output"
TAGS = {IGNORED, "raises-exception"}
#: what a live view or a picture shows in its place
SHOWN = {"image/png", "text/html"}
TIME = re.compile(r"\d (?:us|ms|s)\b")
SECTION = re.MULTILINE | re.DOTALL
LINK = re.compile(r"\[[^]]+\]\(([^)\s]+)\)")

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return loaded


def code_cells(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in load(path)["cells"] if cell["cell_type"] == "code"]


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def texts(cell: dict[str, Any]) -> str:
    """What its outputs say in plain text."""
    parts: list[str] = []
    for output in cell["outputs"]:
        parts += output.get("text", []) or output.get("data", {}).get("text/plain", [])
    return "".join(parts)


def tags(cell: dict[str, Any]) -> set[str]:
    return set(cell["metadata"].get("tags", []))


# --- they run -------------------------------------------------------------------------------------


@pytest.mark.timeout(600)
def test_outputs_are_the_stored_ones(engine: str, tmp_path: Path) -> None:
    """The very same notebooks and outputs on both engines."""
    compare([path for path in NOTEBOOKS if path != LINUX], engine, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_outputs_of_the_one_with_a_linux(engine: str, tmp_path: Path) -> None:
    works, why = runs_linux(engine)
    if not works:
        pytest.skip(f"{engine} cannot run Linux here: {why}")
    fetched("debian")
    compare([LINUX], engine, tmp_path)


def compare(paths: list[Path], engine: str, tmp_path: Path) -> None:
    """Run them; fail when an output is not the stored one."""
    for module in ("nbval", "matplotlib", "ipykernel"):
        require_module(module)
    environment = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    environment |= {
        "VMLAB_ENGINE": engine,
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore"]
    command += ["--nbval", "--nbval-current-env", f"--nbval-cell-timeout={CELL_TIMEOUT}"]
    command += ["--timeout=300"]
    command += ["-n", "2", "--dist", "loadfile", f"--rootdir={HERE}", "-c", os.devnull]
    done = subprocess.run(
        [*command, *map(str, paths)],
        cwd=HERE,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


@pytest.mark.slow
def test_a_driver_is_written_without_a_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its steps and the exercise's solution from the prepared images, to the same outputs."""
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    compare([HERE / "11-write-a-driver.ipynb"], "soft", tmp_path)


def test_all_of_them_are_there() -> None:
    assert [path.stem for path in NOTEBOOKS][: len(TITLES)] == TITLES


# --- they were run --------------------------------------------------------------------------------


@every_notebook
def test_every_cell_was_executed(path: Path) -> None:
    """nbval passes cells that never ran in silence."""
    counts = [cell["execution_count"] for cell in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1))


@every_notebook
def test_no_cell_failed(path: Path) -> None:
    for cell in code_cells(path):
        if "raises-exception" not in tags(cell):
            assert not [one for one in cell["outputs"] if one["output_type"] == "error"]
            assert "Traceback" not in texts(cell), source(cell)


@every_notebook
def test_nothing_went_to_stderr(path: Path) -> None:
    for cell in code_cells(path):
        assert not [one for one in cell["outputs"] if one.get("name") == "stderr"], source(cell)


@every_notebook
def test_only_views_figures_and_times_are_not_compared(path: Path) -> None:
    for cell in code_cells(path):
        assert tags(cell) <= TAGS
        if IGNORED in tags(cell):
            shown = {kind for one in cell["outputs"] for kind in one.get("data", {})}
            assert shown & SHOWN or TIME.search(texts(cell)), source(cell)


@every_notebook
def test_compared_outputs_name_no_engine(path: Path) -> None:
    for cell in code_cells(path):
        if IGNORED not in tags(cell):
            assert not re.search(r"\b(kvm|soft|unicorn)\b", texts(cell), re.IGNORECASE), source(
                cell
            )


# --- they are fit to be stored ---------------------------------------------------------------------


@every_notebook
def test_metadata(path: Path) -> None:
    notebook = load(path)
    assert notebook["nbformat"], notebook["nbformat_minor"] == (4, 5)
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert notebook["metadata"]["language_info"] == {"name": "python"}
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(ids) == len(set(ids))
    for cell in notebook["cells"]:
        assert set(cell["metadata"]) <= {"tags", "nbgrader"}


@every_notebook
def test_nothing_of_the_machine_that_ran_it(path: Path) -> None:
    text = path.read_text("utf-8")
    found = re.search(
        r"(?<![\w.])/(?:home|root|tmp|work|usr|opt|Users|private|var)/|ipykernel_\d", text
    )
    assert not found, text[max(0, found.start() - 60) : found.end() + 60]
    assert "widget-view+json" not in text
    assert "widget-state+json" not in text
    assert path.stat().st_size < 400_000


@every_notebook
def test_headings(path: Path) -> None:
    """A title with the notebook's number, one sentence on what will be seen, and no level left out."""
    notebook = load(path)
    first = notebook["cells"][0]
    assert first["cell_type"] == "markdown"
    title, empty, promise = source(first).splitlines()[:3]
    assert title.startswith(f"# {int(path.stem[:2])}. ")
    assert not empty
    assert promise.startswith("You will ")
    levels = [len(mark) for mark in re.findall(r"^(#+) ", _prose(notebook), re.MULTILINE)]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


@every_notebook
def test_they_teach(path: Path) -> None:
    """Something to predict, answers to what is to be tried, a hint for each exercise, a recap at the end."""
    prose = _prose(load(path))
    solutions = [
        cell for cell in code_cells(path) if cell["metadata"].get("nbgrader", {}).get("solution")
    ]
    assert "**Predict first" in prose
    tried = re.search(
        r"^## Try it\n(.*?)<details><summary>Answers</summary>\n(.*?)</details>", prose, SECTION
    )
    assert tried is not None
    assert tried[1].count("\n- ") == tried[2].count("\n- "), "an answer to each"
    assert prose.count("<details><summary>Hint</summary>\n\n") == len(solutions)
    assert prose.count("<details>") == prose.count("\n\n</details>") == len(solutions) + 1
    assert len(re.findall(r"^- ", prose.partition("## What you have seen")[2], re.MULTILINE)) >= 3


@every_notebook
def test_what_the_text_invites_to_play_with_is_not_stopped(path: Path) -> None:
    """Run All leaves the machines running; they end with the kernel."""
    for cell in code_cells(path):
        assert not re.search(r"^\w+\.(?:stop|close)\(\)", source(cell), re.MULTILINE), source(cell)


def test_the_glossary_is_one_page_with_words_of_every_notebook() -> None:
    notebook = load(GLOSSARY)
    assert {cell["cell_type"] for cell in notebook["cells"]} == {"markdown"}
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    entries = re.findall(r"^- \*\*.*?\((\d+)\)$", _prose(notebook), SECTION)
    assert len(entries) >= 40
    assert {int(number) for number in entries} == set(range(1, len(NOTEBOOKS) + 1))
    assert "(glossary.ipynb)" in _prose(load(NOTEBOOKS[0]))
    assert all((HERE / target).is_file() for target in LINK.findall(_prose(notebook)))


@every_notebook
def test_links_resolve(path: Path) -> None:
    for target in LINK.findall(_prose(load(path))):
        assert "://" in target or (HERE / target.partition("#")[0]).is_file(), target


@every_notebook
def test_there_is_something_to_see(path: Path) -> None:
    shown = {
        kind for cell in code_cells(path) for one in cell["outputs"] for kind in one.get("data", {})
    }
    assert "image/png" in shown


def test_the_readme_lists_them() -> None:
    text = (HERE / "README.md").read_text("utf-8")
    assert re.findall(r"\]\((\d\d-[\w-]+)\.ipynb\)", text) == [path.stem for path in NOTEBOOKS]


def _prose(notebook: dict[str, Any]) -> str:
    return "\n\n".join(
        source(cell) for cell in notebook["cells"] if cell["cell_type"] == "markdown"
    )

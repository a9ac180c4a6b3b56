"""The exercises: what is handed out has no solutions, and their checks tell right from missing."""

from __future__ import annotations

import ast
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.linux.conftest import fetched
from tests.support import require_module

HERE = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(HERE.glob("*.ipynb"))
#: fails when a VM of the notebook still runs
NONE_RUNS = """
import gc
from vmlab import VM
assert not [one for one in gc.get_objects() if isinstance(one, VM) and one.pid is not None]
"""

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def execute() -> ModuleType:
    """notebooks/execute.py"""
    require_module("nbclient")
    require_module("nbformat")
    from notebooks import execute

    return execute


def read(path: Path) -> Any:
    import nbformat

    return nbformat.read(str(path), as_version=4)


def grading(cell: Any) -> dict[str, Any]:
    found: dict[str, Any] = cell.metadata.get("nbgrader", {})
    return found


@every_notebook
def test_exercises_are_marked_as_nbgrader_wants(execute: ModuleType, path: Path) -> None:
    """A solution cell, then the cell that checks it, for a point."""
    marked = [cell for cell in read(path).cells if grading(cell)]
    solutions, checks = marked[::2], marked[1::2]
    assert solutions
    for solution, check in zip(solutions, checks, strict=True):
        mine, its = grading(solution), grading(check)
        assert (mine["solution"], mine["grade"], its["solution"], its["grade"]) == (1, 0, 0, 1)
        assert its["grade_id"] == mine["grade_id"] + "-check"
        assert its["locked"]
        assert its["points"] == 1
        for cell, mark in ((solution, "SOLUTION"), (check, "HIDDEN TESTS")):
            begins, ends = (cell.source.count(f"### {word} {mark}") for word in ("BEGIN", "END"))
            assert begins == ends >= 1
        assert "assert" in execute.strip(check.source), "a check that students see"


@every_notebook
def test_what_is_handed_out(execute: ModuleType, path: Path) -> None:
    notebook = execute.without_solutions(read(path))
    for cell in notebook.cells:
        assert "SOLUTION" not in cell.source
        assert "HIDDEN" not in cell.source
        if cell.cell_type == "code":
            if not cell.source.startswith("%"):
                ast.parse(cell.source)
            assert not cell.outputs
            assert ("NotImplementedError" in cell.source) is bool(grading(cell).get("solution"))


@pytest.mark.timeout(180)
@every_notebook
def test_checks_fail_without_solutions(execute: ModuleType, path: Path) -> None:
    """Everything else runs, and in the end no VM does. (With the solutions, test_notebooks runs it.)"""
    import nbformat
    from nbclient import NotebookClient

    require_module("matplotlib")
    if path.stem == "09-linux":
        fetched("debian")
    notebook = execute.without_solutions(read(path))
    notebook.cells.append(nbformat.v4.new_code_cell(NONE_RUNS))
    NotebookClient(
        notebook,
        timeout=execute.CELL_TIMEOUT,
        kernel_name="python3",
        allow_errors=True,
        resources={"metadata": {"path": str(HERE)}},
    ).execute()
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        errors = [
            f"{one.ename}: {one.evalue}" for one in cell.outputs if one.output_type == "error"
        ]
        if grading(cell).get("grade"):
            assert errors, f"passes without a solution: {cell.source}"
        elif not grading(cell):
            assert not errors, (cell.source, errors)

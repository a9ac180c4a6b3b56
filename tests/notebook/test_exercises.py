"""The exercises: handouts without solutions, and checks that tell right from wrong, as often as they run."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.linux.conftest import fetched
from tests.notebook.answers import WRONG, Answer
from tests.support import require_module
from tests.waiting import alive, until

HERE = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(HERE.glob("[0-9]*.ipynb"))
LINUX = "09-linux"
#: a view, a figure or a time: no exercise needs it, unless it makes a machine
SEEN = "nbval-ignore-output"
#: what is plugged in, and whether it runs
DEVICES = "print([one.id for one in vm.devices.values() if not one.fixed], vm.state)"
#: the processes of machines that run
PIDS = """
import gc
from vmlab import VM
print([one.pid for one in gc.get_objects() if isinstance(one, VM) and one.pid is not None])
"""
UNSOLVED = ("YOUR CODE HERE", "There is no ")

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def handouts() -> ModuleType:
    """notebooks/handout.py"""
    from notebooks import handout

    return handout


def read(path: Path) -> Any:
    import nbformat

    return nbformat.read(str(path), as_version=4)


def grading(cell: Any) -> dict[str, Any]:
    found: dict[str, Any] = cell["metadata"].get("nbgrader", {})
    return found


def source(cell: Any) -> str:
    return "".join(cell["source"])


def exercises(notebook: Any) -> Iterator[tuple[str, Any, Any]]:
    """(name, solution, check)"""
    marked = [cell for cell in notebook["cells"] if grading(cell)]
    for solution, check in zip(marked[::2], marked[1::2], strict=True):
        yield grading(solution)["grade_id"], solution, check


def run(notebook: Any, folder: Path) -> None:
    """As Run All does, but on past errors."""
    from nbclient import NotebookClient

    NotebookClient(
        notebook,
        timeout=180,
        kernel_name="python3",
        allow_errors=True,
        resources={"metadata": {"path": str(folder)}},
    ).execute()


def error(cell: Any) -> str:
    """What a student sees of it; empty for none."""
    shown = [one for one in cell.outputs if one.output_type == "error"]
    return "\n".join(line for one in shown for line in one.traceback)


def printed(cell: Any) -> str:
    return "".join(one.text for one in cell.outputs if one.output_type == "stream")


# --- what is handed out ---------------------------------------------------------------------------


@every_notebook
def test_exercises_are_marked_as_nbgrader_wants(handouts: ModuleType, path: Path) -> None:
    """A solution cell, then the cell that checks it, for a point."""
    found = list(exercises(json.loads(path.read_text("utf-8"))))
    assert found
    for name, solution, check in found:
        mine, its = grading(solution), grading(check)
        assert (mine["solution"], mine["grade"], its["solution"], its["grade"]) == (1, 0, 0, 1)
        assert its["grade_id"] == name + "-check"
        assert its["locked"]
        assert its["points"] == 1
        for cell, mark in ((solution, "SOLUTION"), (check, "HIDDEN TESTS")):
            begins, ends = (source(cell).count(f"### {word} {mark}") for word in ("BEGIN", "END"))
            assert begins == ends >= 1
        assert "check(" in handouts.strip(source(check)), "a check that students see"


@every_notebook
def test_cells_can_run_again(path: Path) -> None:
    """None names a slot or the address of what is plugged in: the second time it is another one."""
    cells = [
        cell for cell in json.loads(path.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"
    ]
    plugs = any("hot_add(" in source(cell) for cell in cells)
    for cell in cells:
        assert not re.search(r"slot \d", source(cell)), source(cell)
        assert not (plugs and re.search(r"0xd000[\d_]+", source(cell))), source(cell)
        if grading(cell).get("grade"):
            assert re.search(r"with Check\(", source(cell)), "says what it got, and cleans up"
            assert "assert" not in source(cell)


@every_notebook
def test_what_is_handed_out(handouts: ModuleType, path: Path) -> None:
    for cell in json.loads(handouts.handout(path))["cells"]:
        text = source(cell)
        assert "SOLUTION" not in text
        assert "HIDDEN" not in text
        if cell["cell_type"] == "code":
            if not text.startswith("%"):
                ast.parse(text)
            assert not cell["outputs"]
            assert ("NotImplementedError" in text) is bool(grading(cell).get("solution"))
            assert cell["metadata"].get("editable", True) is not grading(cell).get("locked", False)


def test_handouts_are_written_once_somebody_has_worked_in_them(
    handouts: ModuleType, tmp_path: Path
) -> None:
    """What was only looked at is brought up to date; what was saved is kept, and that is said."""
    folder, original = tmp_path / "with a space", tmp_path / "01-one.ipynb"
    cell = {"cell_type": "code", "metadata": {}, "outputs": [1], "execution_count": 1}

    def offer(text: str) -> list[str]:
        original.write_text(json.dumps({"cells": [{**cell, "source": [text]}]}))
        found: list[str] = handouts.hand_out(folder, [original])
        return found

    mine = folder / original.name
    assert offer("first") == []
    assert "first" in mine.read_text()
    assert offer("second") == []
    assert "second" in mine.read_text()
    mine.write_text("my own work")
    assert offer("second") == []
    assert offer("third") == [original.name]
    assert mine.read_text() == "my own work"
    (folder / handouts.MADE).unlink()
    assert offer("third") == [original.name]
    assert mine.read_text() == "my own work"
    mine.unlink()
    assert offer("third") == []
    assert "third" in mine.read_text()
    assert {one.name for one in folder.iterdir()} == {original.name, handouts.MADE}


def test_the_notebooks_are_not_overwritten_by_handouts(
    handouts: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["handout.py", str(HERE)])
    with pytest.raises(SystemExit, match="another folder"):
        handouts.main()


# --- what students see ----------------------------------------------------------------------------


@pytest.mark.timeout(300)
@every_notebook
def test_run_all_of_a_handout(handouts: ModuleType, path: Path, tmp_path: Path) -> None:
    """Exercises fail with a hint, nothing else does; machines live on, until the kernel ends."""
    import nbformat

    require_module("nbclient")
    require_module("matplotlib")
    if path.stem == LINUX:
        fetched("debian")
    notebook = nbformat.reads(handouts.handout(path).decode(), as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(PIDS))
    run(notebook, tmp_path)
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        if grading(cell).get("grade"):
            assert any(words in error(cell) for words in UNSOLVED), cell.source
            assert "A hint: " in error(cell)
            assert "Traceback" not in error(cell)
        elif grading(cell):
            assert not error(cell) or "a hint is above" in error(cell)
        else:
            assert not error(cell), (cell.source, error(cell))
    pids = json.loads(printed(notebook.cells[-1]))
    assert pids, "nothing runs that one could play with"
    until(lambda: not any(map(alive, pids)), "the machines end with their notebook's kernel")


def steps(handouts: ModuleType, name: str, solution: Any, check: Any) -> Iterator[tuple[Any, ...]]:
    """(what, answer's source, check's source, words that it must say) of a student who finds every wrong
    answer first, and then the right one."""
    whole, seen = check.source, handouts.strip(check.source)
    yield "unsolved", handouts.strip(solution.source), seen, UNSOLVED
    for answer in WRONG[name]:
        wrong = answer_source(answer, solution.source)
        yield answer.name, wrong, whole if answer.hidden else seen, answer.says
        yield f"right after {answer.name}", solution.source, whole, None
        yield "twice", "", whole, None


def answer_source(answer: Answer, right: str) -> str:
    if answer.old is None:
        return answer.new
    assert answer.old in right, f"{answer.name}: the right answer has no {answer.old}"
    return right.replace(answer.old, answer.new)


@pytest.mark.timeout(600)
@every_notebook
def test_right_and_wrong_answers(handouts: ModuleType, path: Path, tmp_path: Path) -> None:
    """After each wrong answer the right one passes, twice, in both orders of the exercises; a wrong one
    says what it got and what was expected; and the guest is as it was."""
    from nbformat.v4 import new_code_cell

    require_module("nbclient")
    require_module("matplotlib")
    if path.stem == LINUX:
        fetched("debian")
    notebook = read(path)
    found = list(exercises(notebook))
    assert {name for name, _, _ in found} <= set(WRONG)
    notebook.cells = [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code" and not grading(cell) and needed(cell)
    ]
    lessons = len(notebook.cells)
    notebook.cells.append(new_code_cell(DEVICES))
    expected: list[tuple[str, Any, tuple[str, ...] | None]] = []

    def take(what: str, answer: str, check: str, says: tuple[str, ...] | None) -> None:
        if answer:
            notebook.cells.append(new_code_cell(answer))
        notebook.cells.append(new_code_cell(check))
        expected.append((what, notebook.cells[-1], says))

    # the exercises one after the other, then the other way round
    for name, solution, check in found:
        for what, answer, checked, says in steps(handouts, name, solution, check):
            take(f"{name}: {what}", answer, checked, says)
    for name, solution, check in reversed(found):
        wrong = WRONG[name][0]
        take(f"{name}: again", answer_source(wrong, solution.source), check.source, wrong.says)
        take(f"{name}: last", solution.source, check.source, None)
    notebook.cells.append(new_code_cell(DEVICES))
    run(notebook, tmp_path)
    for cell in notebook.cells[:lessons]:
        assert not error(cell), (cell.source, error(cell))
    for what, cell, says in expected:
        if says is None:
            assert not error(cell), (what, error(cell))
            assert printed(cell) == "right\n", what
        elif says == UNSOLVED:
            assert any(words in error(cell) for words in says), (what, error(cell))
        else:
            assert error(cell), f"{what}: passes"
            for words in (*says, "A hint: "):
                assert words in error(cell), (what, words, error(cell))
    assert printed(notebook.cells[lessons]) == printed(notebook.cells[-1])


def needed(cell: Any) -> bool:
    return SEEN not in cell.metadata.get("tags", []) or "VM(" in cell.source

#!/usr/bin/env python3
"""Run the notebooks and store their outputs.

    python notebooks/execute.py                     all of them
    python notebooks/execute.py 03 05               those whose names begin so
    python notebooks/execute.py --check             run them, store nothing; fail when one fails

What is stored is the same whoever runs it, but for times and pictures: cells have ids made from their
place, there are no widget states, no paths, no counts of executions but 1, 2, 3...
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

HERE = Path(__file__).resolve().parent
#: seconds that a cell may take: a Linux boots in three, in a hundred on a very busy host
CELL_TIMEOUT = 180
#: what a live view leaves behind that nobody can show again
LIVE = "application/vnd.jupyter.widget-view+json"
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


def notebooks(names: list[str] | None = None) -> list[Path]:
    """The notebooks in order; of all, or those that begin with one of `names`."""
    found = sorted(HERE.glob("[0-9][0-9]-*.ipynb"))
    if not names:
        return found
    chosen = [path for path in found if any(path.name.startswith(name) for name in names)]
    if not chosen:
        there = ", ".join(path.stem for path in found)
        raise SystemExit(f"no notebook begins with {' or '.join(names)}; there are {there}")
    return chosen


def run(notebook: Any) -> None:
    """Execute in place; CellExecutionError when a cell fails."""
    NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        resources={"metadata": {"path": str(HERE)}},
        store_widget_state=False,
    ).execute()


def normalise(notebook: Any) -> None:
    """Take away whatever depends on who ran it, when and where."""
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    count = 0
    for place, cell in enumerate(notebook.cells):
        cell.id = cell.metadata.get("nbgrader", {}).get("grade_id") or f"cell-{place:02}"
        for key in set(cell.metadata) - {"tags", "nbgrader"}:
            del cell.metadata[key]
        if cell.cell_type == "code":
            count += 1
            cell.execution_count = count
            cell.outputs = [output for output in cell.outputs if _normalise_output(output, count)]


def _normalise_output(output: Any, count: int) -> bool:
    """False for an output that is nothing without its live view."""
    output.pop("transient", None)
    if "execution_count" in output:
        output["execution_count"] = count
    data = output.get("data")
    if data is None:
        return True
    output["metadata"] = {}
    data.pop(LIVE, None)
    return bool(data)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", help="beginnings of names: 03 05")
    parser.add_argument("--check", action="store_true", help="store nothing")
    options = parser.parse_args()
    failed = 0
    for path in notebooks(options.names):
        notebook = nbformat.read(path, as_version=4)
        start = time.monotonic()
        try:
            run(notebook)
        except CellExecutionError as error:
            failed += 1
            print(f"{path.name}: {error}", file=sys.stderr)
            continue
        print(f"{path.name}: {time.monotonic() - start:.1f} s")
        if not options.check:
            normalise(notebook)
            nbformat.write(notebook, path)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

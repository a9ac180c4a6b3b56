#!/usr/bin/env python3
"""What students get: the notebooks without solutions, hidden tests and outputs.

    python notebooks/handout.py              into handouts/, where `make lab` opens them
    python notebooks/handout.py DIRECTORY    anywhere else

The notebooks here are the only source; a handout is made from one. Once somebody has saved a handout it is
theirs and is never written again: delete it (or rename it) to get a fresh one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
HANDOUTS = HERE.parent / "handouts"
#: in the folder: name -> hash of what was written there
MADE = ".made.json"
SOLUTION = re.compile(
    r"^(?P<indent>[ \t]*)### BEGIN SOLUTION\n.*?^[ \t]*### END SOLUTION[ \t]*(?:\n|\Z)",
    re.MULTILINE | re.DOTALL,
)
HIDDEN = re.compile(
    r"^[ \t]*### BEGIN HIDDEN TESTS\n.*?^[ \t]*### END HIDDEN TESTS[ \t]*(?:\n|\Z)",
    re.MULTILINE | re.DOTALL,
)
#: what stands where a solution was: nbgrader's words, and where to look
STUB = '{indent}# YOUR CODE HERE\n{indent}raise NotImplementedError("yours to write; a hint is above")\n'


def strip(source: str) -> str:
    """A cell without its solution and hidden tests."""
    source = SOLUTION.sub(lambda found: STUB.format(indent=found["indent"]), source)
    return HIDDEN.sub("", source).rstrip("\n")


def without_solutions(notebook: Any) -> Any:
    """As nbgrader's generate_assignment hands it out; checks cannot be edited by mistake."""
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        cell["source"] = strip("".join(cell["source"]))
        cell["outputs"], cell["execution_count"] = [], None
        if cell["metadata"].get("nbgrader", {}).get("locked"):
            cell["metadata"] |= {"editable": False, "deletable": False}
    return notebook


def handout(path: Path) -> bytes:
    """What is handed out of the notebook at `path`."""
    notebook = without_solutions(json.loads(path.read_text("utf-8")))
    return (json.dumps(notebook, indent=1, ensure_ascii=False) + "\n").encode()


def hand_out(folder: Path, sources: list[Path] | None = None) -> list[str]:
    """Write what is missing or was never touched. Returns the names of those that were, and of which
    there is a newer one by now."""
    folder.mkdir(parents=True, exist_ok=True)
    made = _made(folder)
    outdated = []
    for source in sources if sources is not None else sorted(HERE.glob("*.ipynb")):
        target, fresh = folder / source.name, handout(source)
        written = made.get(source.name)
        if not target.exists() or _hash(target.read_bytes()) in (written, _hash(fresh)):
            _write(target, fresh)
            made[source.name] = _hash(fresh)
        elif written != _hash(fresh):
            outdated.append(source.name)
    _write(folder / MADE, (json.dumps(made, indent=1) + "\n").encode())
    return outdated


def _write(target: Path, data: bytes) -> None:
    """All of it or nothing: half a handout would count as somebody's work."""
    part = target.with_name(f".{target.name}.part")
    part.write_bytes(data)
    part.replace(target)


def _made(folder: Path) -> dict[str, str]:
    try:
        found = json.loads((folder / MADE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}  # whose the notebooks there are is not known: they are kept
    return found if isinstance(found, dict) else {}


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", nargs="?", type=Path, default=HANDOUTS, metavar="DIRECTORY")
    folder = parser.parse_args().folder
    if folder.resolve() == HERE:
        raise SystemExit(f"{folder} holds the notebooks themselves; choose another folder")
    if outdated := hand_out(folder):
        print(f"There is a newer version of {', '.join(outdated)} than yours, which was kept:")
        print(f"rename or delete it in {folder} to get the new one.")
    return 0


if __name__ == "__main__":
    sys.exit(main())

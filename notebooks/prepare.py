#!/usr/bin/env python3
"""Build the images with which notebook 11 runs where there is no compiler: `python notebooks/prepare.py`.

The notebook's own cells are run, and what they build is kept under the hash of its source. Needs one of the
notebook's compilers; run it when a line of C in the notebook has changed.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
NOTEBOOK = HERE / "11-write-a-driver.ipynb"


def run(keep: Path) -> list[Path]:
    """Run the cells and put the images into `keep`; those that are wanted."""
    names: dict[str, Any] = {}
    built: list[Path] = []
    for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"]:
        if cell["cell_type"] != "code" or cell["metadata"].get("tags"):
            continue
        exec("".join(cell["source"]), names)
        if "build" in names and "unrecorded" not in names:
            names["unrecorded"] = names["build"]
            names["build"] = lambda *functions: record(names, keep, built, *functions)
    return built


def record(names: dict[str, Any], keep: Path, built: list[Path], *functions: str) -> Path:
    image: Path = names["unrecorded"](*functions)
    target = keep / names["prepared_name"]((image.parent / "kernel.c").read_text())
    shutil.copyfile(image, target)
    built.append(target)
    return image


def main() -> None:
    from vmlab import kernels

    keep = kernels.path("hello", "riscv64").parent / "driver"
    keep.mkdir(exist_ok=True)
    wanted = run(keep)
    for image in keep.glob("*.elf"):
        if image not in wanted:
            image.unlink()
    print(f"{len(set(wanted))} images in {keep.name}/")


if __name__ == "__main__":
    main()

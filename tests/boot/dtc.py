"""Device trees as dtc reads them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support import require_program

__all__ = ["source"]


def source(blob: bytes, folder: Path) -> str:
    """The text of the tree; dtc finds nothing wrong with it."""
    dtc = require_program("dtc")
    (folder / "t.dtb").write_bytes(blob)
    done = subprocess.run(
        [dtc, "-I", "dtb", "-O", "dts", "t.dtb"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout

"""A guest that uses the text screen and the keyboard, built for the tests."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from tests.support import require_program

__all__ = ["echo"]

SOURCE = Path(__file__).with_name("echo.S")


@cache
def echo() -> Path:
    """The image; see the source for what it does."""
    image = Path(mkdtemp(prefix="vmlab-screen-")) / "echo.elf"
    command = [require_program("gcc"), "-m32", "-nostdlib", "-static", "-no-pie"]
    command += ["-Wl,-Ttext=0x100000,--build-id=none", "-Wl,-N", "-o", str(image), str(SOURCE)]
    subprocess.run(command, check=True, capture_output=True)
    return image

"""Two workers (`pytest -n 2`): what shares something stays together, and what takes long begins first."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import pytest

__all__ = ["together", "turn"]

#: one emulated machine and one fetched kernel serve all of these
BOX = ("tests/linux/", "tests/box/")
#: those of its tests that run on KVM, and one of Linux, need another emulated machine: it takes a minute to
#: begin, and both together are too much for one worker
ARM64 = "tests/kernels/test_arm64.py"
ARM64_LINUX = "tests/linux/test_arm64.py::test_on_kvm"
#: files that take minutes, in this order
LONG = (
    *BOX,
    ARM64,
    "tests/notebook/test_exercises.py",
    "tests/notebook/test_notebooks.py",
    "tests/test_code_that",
)


def turn(file: PurePath) -> int:
    """When the tests of a file begin. The browser's come last: its client keeps an event loop and processes
    until the end of the worker, which tests of either would trip over."""
    path = file.as_posix()
    if path.startswith("tests/browser/"):
        return len(LONG) + 1
    return next((at for at, name in enumerate(LONG) if path.startswith(name)), len(LONG))


def together(nodeid: str) -> str:
    """Tests of which this is the same run in one worker, one after another."""
    file, _, test = nodeid.partition("::")
    if nodeid == ARM64_LINUX or (file == ARM64 and "kvm" in test.partition("[")[2]):
        return ARM64_LINUX
    return BOX[0] if file.startswith(BOX) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
        def _split_scope(self, nodeid: str) -> str:
            return together(nodeid)

    config.option.loadscopereorder = False
    return Scheduling(config, log)

"""What the tests themselves stand on."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.parallel import together
from tests.support import ROOT

INHERIT = """
import os, signal
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGUSR1})
os.umask(0o077)
os.close(0)
os.environ.pop("TERM", None)
os.environ.update(LC_ALL="C", LANG="de_DE", LANGUAGE="de")
os.execv(sys.executable, [sys.executable, "-c", '''
from tests.support import forget_inheritance
forget_inheritance()
import signal, subprocess, sys, os
code = "import os, signal; print([int(signal.getsignal(n)) for n in (1, 15, 17)], end=' ')"
code += "; print(signal.getsignal(2).__name__, signal.pthread_sigmask(signal.SIG_BLOCK, ()), end=' ')"
code += "; print(oct(os.umask(0)), os.read(0, 9), os.environ['TERM'], os.environ.get('LC_ALL'), end='')"
sys.exit(subprocess.run([sys.executable, "-c", code]).returncode)
'''])
"""


def test_what_is_inherited_changes_no_test() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys" + INHERIT],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[0, 0, 0] default_int_handler set() 0o22 b'' dumb None"


@pytest.mark.parametrize(
    ("test", "box"),
    [
        ("tests/linux/test_debian.py::test_the_button[kvm]", "x86_64"),
        ("tests/box/test_engine.py::test_debug_exit", "x86_64"),
        ("tests/kernels/test_arm64.py::test_hello[kvm-gicv3]", "arm64"),
        ("tests/kernels/test_arm64.py::test_hello[soft-gicv3]", None),
        ("tests/kernels/test_boot.py::test_hello[kvm]", None),
    ],
)
def test_what_needs_a_box_stays_together(test: str, box: str | None) -> None:
    """Two workers would each begin a box of their own."""
    boxes = {
        "x86_64": together("tests/linux/test_interrupts.py::test_64_slots[soft]"),
        "arm64": together("tests/linux/test_arm64.py::test_on_kvm"),
    }
    assert [name for name, one in boxes.items() if one == together(test)] == [box] * bool(box)

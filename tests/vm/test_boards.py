"""Boards by their names."""

from __future__ import annotations

import pytest

from tests.support import require_module
from vmlab import VM, kernels
from vmlab.arch import HOMES, boards, machine
from vmlab.errors import ConfigError
from vmlab.machine.config import MachineConfig


def test_each_architecture_has_a_usual_board() -> None:
    assert {name: list(boards(name)) for name in HOMES} == {
        "x86_64": ["pc", "krun"],
        "arm64": ["krun"],
        "riscv64": ["virt", "krun"],
        "riscv32": ["virt"],
    }
    for name in HOMES:
        assert machine(name) is next(iter(boards(name).values()))


@pytest.mark.parametrize(
    ("arch", "board", "words"),
    [
        (
            "x86_64",
            "virt",
            r"x86_64: no machine 'virt'; there are pc, krun; riscv64, riscv32 has a",
        ),
        ("arm64", "virt", r"arm64: no machine 'virt'; there are krun; riscv64"),
        ("riscv64", "vert", r"no machine 'vert'; did you mean 'virt'\? \(there are virt, krun\)"),
        ("riscv32", "krun", r"riscv32: no machine 'krun'; there are virt; x86_64, arm64, riscv64"),
        ("riscv64", 5, r"no machine 5; there are virt, krun"),
    ],
)
def test_a_board_that_is_not_there(arch: str, board: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        VM("hello", arch=arch, machine=board)
    with pytest.raises(ConfigError, match=words):
        MachineConfig("x", arch=arch, machine=board).check()


def test_it_is_shown() -> None:
    require_module("unicorn")
    with VM("hello", machine="pc", engine="soft") as vm:
        assert vm.machine == "pc"
        assert "; x86_64 pc, soft, " in repr(vm)
        assert (vm.stats()["arch"], vm.stats()["machine"]) == ("x86_64", "pc")
    assert VM(kernels.path("hello"), machine="krun").machine == "pc", "its numbers are libkrun's"

"""The same guest makes the same device accesses under both engines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import require_kvm, require_module
from tests.vms import PATIENCE, PROMPT, run
from vmlab import VM, kernels

pytestmark = pytest.mark.slow

#: kernel -> (options of the VM, lines typed at its prompt)
SCRIPTS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "hello": ({"cmdline": "exit=5 and more"}, []),
    "irqlab": ({"cmdline": "ticks=7 period=2000 exit=1"}, []),
    "smp": ({"cpus": 2, "cmdline": "cpus=2"}, []),
    "monitor": (
        {},
        [
            *("help", "regions", "devices", "irqs", "cmdline", "help peek", "nonsense"),
            *("peek 0xd0000000 1", "peek 0xd0000000 2", "peek 0xd0000004 4 3", "peek 0xd0001000 8"),
            *("poke 0xd0000000 5 1", "poke 0xd0000008 0x1122334455667788 8", "fill 0x300000 64 7"),
            *("dump 0x300000 32", "in 0x3fd", "in 0x300 2", "out 0x300 4 4", "timer 1000", "irqs"),
            *("fault divide", "fault page", "fault undefined", "peek 0xcf000000 4 4", "spin 1"),
        ],
    ),
}


def counts(name: str, engine: str) -> dict[str, Any]:
    options, lines = SCRIPTS[name]
    with VM(kernel=name, engine=engine, **options) as vm:
        if lines:
            vm.console.expect(PROMPT, PATIENCE)
            for line in lines:
                vm.console.run(line, timeout=PATIENCE)
            vm.console.send("exit 2\n")
        assert vm.wait(PATIENCE) is not None, vm.console.text
        text = vm.console.text
    stats = vm.stats()
    return {
        "devices": stats["devices"],
        "raised": {(row["line"], row["device"]): row["raised"] for row in stats["irqs"]},
        "unmapped": stats["unmapped"],
        "exit": stats["exit"],
        "map": stats["map"],
        "text": text,
    }


def test_every_bundled_kernel_has_a_script() -> None:
    assert set(SCRIPTS) == set(kernels.names())


@pytest.mark.kvm
@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_both_engines_count_alike(name: str) -> None:
    require_kvm()
    require_module("unicorn")
    kvm, soft = counts(name, "kvm"), counts(name, "soft")
    for part in kvm:
        assert kvm[part] == soft[part], part


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_two_runs_count_alike(name: str, engine: str) -> None:
    assert counts(name, engine) == counts(name, engine)


@pytest.mark.kvm
@pytest.mark.parametrize("name", ["hello", "irqlab"])
def test_the_commands_statistics_are_alike(name: str, tmp_path: Path) -> None:
    require_kvm()
    require_module("unicorn")
    found = []
    for engine in ("kvm", "soft"):
        file = tmp_path / engine
        done = run("run", name, "--engine", engine, "--stats", file, "--cmdline", "ticks=3")
        assert done.returncode == 0, done.stderr
        stats = json.loads(file.read_text())
        found.append({key: stats[key] for key in ("devices", "unmapped", "map")})
    assert found[0] == found[1]

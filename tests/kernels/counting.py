"""What a run of a kernel counts."""

from __future__ import annotations

from typing import Any

from tests.vms import PATIENCE
from vmlab import VM

__all__ = ["counts"]


def counts(kernel: str, options: dict[str, Any]) -> dict[str, Any]:
    """Of a whole run: accesses of each device and register, what is unmapped, the map, what was raised."""
    with VM(kernel, **options) as vm:
        assert vm.wait(PATIENCE) is not None
    stats = vm.stats()
    raised = {row["line"]: row["raised"] for row in stats["irqs"]}
    return {key: stats[key] for key in ("devices", "unmapped", "map")} | {"raised": raised}

"""What `vmlab run --stats` writes: every count of a machine, as plain data for JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vmlab.vm import VM

__all__ = ["stats"]


def stats(vm: VM) -> dict[str, Any]:
    """Address map, interrupt lines, counts per device and register, unmapped accesses, exits."""
    traps, ended = vm.traps.to_dict(), vm.exit
    return {
        "engine": vm.engine,
        "engine_reason": vm.engine_reason,
        "exit": {"reason": ended.reason, "code": ended.code, "text": ended.text} if ended else None,
        "map": [
            {"start": one.start, "end": one.end, "kind": one.kind, "name": one.name}
            for one in vm.address_map
        ],
        "irqs": [
            {
                "line": row.line,
                "device": row.device,
                "raised": row.raised,
                "delivered": row.delivered,
            }
            for row in vm.irqs
        ],
        "devices": {
            id: {
                "type": one.type,
                "space": one.space,
                "base": one.base,
                "size": one.size,
                "irq": one.irq,
                **traps[id],
            }
            for id, one in vm.devices.items()
            if id in traps
        },
        "unmapped": {
            f"{space}:{'elsewhere' if at is None else hex(at)}": {"reads": reads, "writes": writes}
            for (space, at), (reads, writes) in vm.unmapped.items()
        },
        "exits": vm.exits,
    }

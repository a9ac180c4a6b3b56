"""What `vmlab run --stats` writes: every count of a machine, as plain data for JSON."""

from __future__ import annotations

from typing import Any

from vmlab.vm.inspection import Inspection

__all__ = ["stats"]


def stats(seen: Inspection) -> dict[str, Any]:
    """Address map, interrupt lines, counts per device and register, unmapped accesses, exits."""
    traps, connection = seen.traps.to_dict(), seen.connection
    ended = connection.state.exit
    return {
        "arch": connection.config.arch,
        "machine": connection.config.board_name,
        "engine": connection.engine,
        "engine_reason": connection.engine_reason,
        "exit": {"reason": ended.reason, "code": ended.code, "text": ended.text} if ended else None,
        "map": [
            {"start": range.start, "end": range.end, "kind": range.kind, "name": range.name}
            for range in seen.address_map
        ],
        "irqs": [
            {
                "line": row.line,
                "device": row.device,
                "raised": row.raised,
                "delivered": row.delivered,
            }
            for row in seen.irqs
        ],
        "devices": {
            id: {
                "type": device.type,
                "space": device.space,
                "base": device.base,
                "size": device.size,
                "irq": device.irq,
                **traps[id],
            }
            for id, device in seen.devices.items()
            if id in traps
        },
        "unmapped": {
            f"{space}:{'elsewhere' if at is None else hex(at)}": {"reads": reads, "writes": writes}
            for (space, at), (reads, writes) in seen.unmapped.items()
        },
        "exits": seen.exits,
    }

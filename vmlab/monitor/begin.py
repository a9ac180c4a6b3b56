"""The monitor process's first lines: no more is loaded than it needs, since a `start` waits for it."""

from __future__ import annotations

from vmlab.core.lean import load_msgspec

__all__ = ["main"]


def main(connection: int, memory: int, size: int, arch: str, page: int, parent: int) -> None:
    """See `server.main`."""
    load_msgspec()
    from vmlab.monitor.server import main as serve

    serve(connection, memory, size, arch, page, parent)

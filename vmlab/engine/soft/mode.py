"""What a vCPU does when it gets its turn."""

from __future__ import annotations

from enum import Enum

__all__ = ["Mode"]


class Mode(Enum):
    """What a vCPU does when it gets its turn."""

    RUNNING = "running"
    HALTED = "halted"
    #: waits for a start-up IPI
    WAITING = "waiting"
    #: cannot go on
    STOPPED = "stopped"

"""Waiting for what no event announces: a guest's progress, another process's end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psutil

__all__ = ["alive", "until"]


def until(condition: Callable[[], Any], what: str = "it came true", seconds: float = 20.0) -> Any:
    """The first true value of `condition`, asked again and again; fails with `what` was not."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.005)
    return found


def alive(pid: int) -> bool:
    """Whether the process has not ended. One that has is a zombie until whoever adopted it looks."""
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False

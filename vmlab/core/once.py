"""What is done once in a process, whoever comes first."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["once"]

T = TypeVar("T")


def once(function: Callable[[], T]) -> Callable[[], T]:
    """`function`, called once; who comes meanwhile waits for its result. An exception is not kept.

    `functools.cache` calls it again for each thread that comes before the first has its result.
    """
    lock = threading.Lock()
    kept: list[T] = []

    @functools.wraps(function)
    def result() -> T:
        if not kept:
            with lock:
                if not kept:
                    kept.append(function())
        return kept[0]

    return result

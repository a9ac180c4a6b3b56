"""Waiting for what a device's code holds: not for ever, and in words."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from vmlab.errors import StateError

__all__ = ["LOOK", "PATIENCE", "Patient", "Taken", "holding", "taken", "waited"]

#: seconds that a call waits for a device's code that does not return, before it says so
PATIENCE = 2.0
#: seconds between looks at whether there is still somebody to blame
LOOK = 0.25
#: exceptions on the way to the first
LINKS = 20


class Taken(BaseException):
    """Raised inside a device's code that does not return, on the thread that is stuck there: the device is
    taken out by force. No `except Exception` of the device's catches it."""

    def __str__(self) -> str:
        return "the device was taken out by force"


def taken(error: BaseException) -> bool:
    """Whether `error` is what became of a `Taken` on its way out of the device's code, whose clean-up may
    have raised something else."""
    one: BaseException | None = error
    for _ in range(LINKS):
        if one is None or isinstance(one, Taken):
            break
        one = one.__context__
    return isinstance(one, Taken)


def waited(wait: Callable[[float], bool], blame: Callable[[], str]) -> str:
    """ "" as soon as `wait(seconds)` is true. Once PATIENCE is over: whom `blame` names, if it does."""
    end = time.monotonic() + PATIENCE
    while not wait(max(end - time.monotonic(), LOOK)):
        if words := blame():
            return words
    return ""


@contextmanager
def holding(lock: Any, blame: Callable[[], str], what: str) -> Iterator[None]:
    """`with lock`, but StateError, "`what`: busy in ...", when a device's code that does not return keeps
    it."""
    if words := waited(lambda seconds: lock.acquire(timeout=seconds), blame):
        raise StateError(f"{what}: {words}")
    try:
        yield
    finally:
        lock.release()


class Patient:
    """An RLock whose `with` is `holding`."""

    def __init__(self, blame: Callable[[], str], what: str) -> None:
        self._lock = threading.RLock()
        self._blame, self._what = blame, what

    def __enter__(self) -> None:
        if words := waited(lambda seconds: self._lock.acquire(timeout=seconds), self._blame):
            raise StateError(f"{self._what}: {words}")

    def __exit__(self, *_: object) -> None:
        self._lock.release()

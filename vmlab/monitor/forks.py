"""What a device's code starts: copies of the monitor process, and programs.

A copy made by `os.fork()` inside a handler would answer the same access a second time: it is ended at once,
and the handler gets a `Forked`. Elsewhere (in `attached`, in a command, in a thread of the device's) a copy
may do its work, as `multiprocessing` has it, but it never comes back into vmlab's code nor speaks to the
notebook. Whatever is still there of the process's group when the machine ends is ended with it.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from types import FrameType
from typing import Any

from vmlab.machine import stacks

__all__ = ["Forked", "end_group", "guard"]

#: passes over the processes: what is to be ended may be starting more
PASSES = 5
#: seconds for what was killed to be gone
REAPING = 0.2


class Forked(RuntimeError):
    """Raised in a device's handler that has made a copy of the process."""

    def __str__(self) -> str:
        return (
            "a device's handler cannot fork: the copy of the process was ended;"
            " use subprocess, a thread, or multiprocessing with 'spawn'"
        )


def guard(connection: socket.socket | None = None) -> None:
    """See to forks of this process from now on; `connection`, a monitor's, is not for copies."""
    guarded = _Guard(connection.fileno() if connection is not None else -1)
    os.register_at_fork(
        before=guarded.before,
        after_in_child=guarded.in_child,
        after_in_parent=guarded.in_parent,
    )


class _Guard:
    """The hooks of one process, all called on the thread that forks."""

    def __init__(self, connection: int) -> None:
        self._connection = connection
        self._forking = threading.local()

    def before(self) -> None:
        place = stacks.place(sys._getframe())
        self._forking.place, self._forking.frame = place, sys._getframe().f_back
        self._forking.pipe = os.pipe() if place is not None and stacks.handles(place) else None

    def in_child(self) -> None:
        if self._connection >= 0:
            os.close(self._connection)
        pipe = self._forking.pipe
        if pipe is not None:
            os.write(pipe[1], str(os.getpid()).encode())
            os._exit(0)
        place = self._forking.place
        if place is not None and self._connection >= 0:
            sys.setprofile(_Leaving(place.inside or place.call))

    def in_parent(self) -> None:
        pipe, frame = self._forking.pipe, self._forking.frame
        self._forking.pipe = self._forking.place = self._forking.frame = None
        if pipe is None:
            return
        os.close(pipe[1])
        try:
            said = os.read(pipe[0], 32)
        finally:
            os.close(pipe[0])
        if said and frame is not None:  # else there is no copy: the fork failed
            _reap(int(said))
            sys.setprofile(_Refusing(frame))


class _Leaving:
    """In a copy, as its profiler: what ends when `frame` returns is the copy."""

    def __init__(self, frame: FrameType) -> None:
        self._frame = frame

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if event == "return" and frame is self._frame:
            os._exit(1)


class _Refusing:
    """In the handler's thread, as its profiler: what is raised at the next call that `frame` makes, or at
    its return. Raised in the hook itself it would be ignored."""

    def __init__(self, frame: FrameType) -> None:
        self._frame = frame

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if frame is self._frame and event in ("c_call", "return"):
            sys.setprofile(None)
            raise Forked


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass  # somebody waits for every child


def end_group() -> None:
    """Kill what is left of this process's group, itself excepted. Only where the group is its own."""
    me = os.getpid()
    if os.getpgrp() != me or not os.path.isdir("/proc/self"):
        return
    for _ in range(PASSES):
        others = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if pid != me]
        mine = [pid for pid in others if _group(pid) == me]
        if not mine:
            return
        for pid in mine:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass  # it has ended by itself
        _reap_all(mine)


def _reap_all(pids: list[int]) -> None:
    """Fetch their status, of those that are children; they die at once, unless they wait for a disk."""
    end = time.monotonic() + REAPING
    while pids and time.monotonic() < end:
        pids = [pid for pid in pids if _dies(pid)]
        time.sleep(0.001)


def _dies(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG) == (0, 0)
    except ChildProcessError:
        return False  # a grandchild


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except OSError:
        return -1

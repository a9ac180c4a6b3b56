"""What is done once in a process is done by whoever comes first."""

from __future__ import annotations

import threading
import time

import pytest

from vmlab.core.once import once


def test_threads_that_come_together_get_one_result() -> None:
    calls: list[int] = []

    @once
    def made() -> object:
        calls.append(1)
        time.sleep(0.05)
        return object()

    barrier, results = threading.Barrier(4), []

    def ask() -> None:
        barrier.wait()
        results.append(made())

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert len(results) == 4
    assert len(set(map(id, results))) == 1


def test_an_exception_is_not_kept() -> None:
    calls: list[int] = []

    @once
    def made() -> int:
        calls.append(1)
        if len(calls) == 1:
            raise OSError("not yet")
        return len(calls)

    with pytest.raises(OSError, match="not yet"):
        made()
    assert (made(), made()) == (2, 2)

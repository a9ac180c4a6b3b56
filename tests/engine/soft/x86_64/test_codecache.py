"""Code that changes runs as it is, whoever changes it."""

from __future__ import annotations

import ctypes
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from tests.engine.soft import code_guests as g
from tests.engine.soft.lab import CODE as CODE_AT
from tests.engine.soft.lab import RESULTS, Lab, bench
from vmlab.engine.soft import codecache, uclib
from vmlab.engine.soft.x86_64 import alias

FUNCTION = 0x200000
_NX = 1 << 63


@pytest.fixture(params=["patched", "hooked"])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """With the library's calls redirected, and with the hook that does instead."""
    if request.param == "patched" and alias.patch() is None:
        pytest.skip("this build of Unicorn, or this system, allows no patch")
    with bench(deterministic=request.param == "hooked") as lab:
        yield lab


def alias_tables(lab: Lab) -> None:
    """At 0x20000: the first 4 MiB in small pages, identical but for 0x201000."""
    write = lab.memory.write
    for level in range(2):
        write(0x20000 + 0x1000 * level, struct.pack("<Q", 0x21000 + 0x1000 * level | 3))
    write(0x22000, struct.pack("<2Q", 0x23003, 0x24003))
    entries = [n << 12 | 3 for n in range(1024)]
    entries[FUNCTION >> 12] &= ~2
    entries[(FUNCTION >> 12) + 1] = FUNCTION | 3 | _NX
    write(0x23000, struct.pack("<1024Q", *entries))


def test_the_cure_is_had_here() -> None:
    """Without it all is right, and slower: nobody would notice."""
    import platform

    if sys.platform.startswith("linux") and platform.machine() == "x86_64":
        assert alias.patch() is not None


def test_the_library_alone_runs_old_code() -> None:
    """Should this fail, the cure is needed no more."""

    class Nothing:
        def join(self, uc: uclib.Uc) -> None: ...

        def leave(self, uc: uclib.Uc) -> None: ...

    assert not alias.alias_is_seen(lambda regions: Nothing())
    assert alias.alias_is_seen(lambda regions: codecache.CodeCaches(regions, None))


def test_a_page_at_two_addresses(lab: Lab) -> None:
    alias_tables(lab)
    lab.run(g.ALIAS, timeout=30)
    assert lab.results(2) == [0, 200]


def test_code_that_rewrites_itself(lab: Lab) -> None:
    lab.run(g.MODIFY, timeout=30)
    assert lab.results(2) == [0, 400]


def changed_by(lab: Lab, how: str, value: int) -> None:
    code = b"\xb8" + struct.pack("<I", value) + b"\xc3"
    if how == "write":
        lab.memory.write(FUNCTION, code)
    elif how == "view":
        view = lab.memory.view(FUNCTION, len(code))
        view[:] = code
        lab.memory.wrote_through(view)
    else:
        lab.engine.pause()
        lab.memory.view(FUNCTION, len(code))[:] = code
        lab.engine.resume()


@pytest.mark.parametrize("how", ["write", "view", "paused"])
def test_the_host_rewrites_code(lab: Lab, how: str) -> None:
    lab.memory.write(FUNCTION, b"\xb8\0\0\0\0\xc3")
    lab.load(g.CALL)
    lab.engine.start()
    for value in range(1, 6):
        before = lab.u64(RESULTS + 8)
        lab.wait_for(lambda seen=before: lab.u64(RESULTS + 8) > seen + 1000)  # type: ignore[misc]
        changed_by(lab, how, value)
        lab.wait_for(lambda wanted=value: lab.u64(RESULTS) == wanted)  # type: ignore[misc]
    lab.engine.pause()


@pytest.mark.parametrize("how", ["write", "view"])
def test_code_is_rewritten_while_it_is_translated(lab: Lab, how: str) -> None:
    """The translator has read the page's first code and not yet said so."""
    lab.memory.write(FUNCTION, b"\xb8\0\0\0\0\xc3")
    caches = lab.engine._caches
    protect = caches.protect
    writers: list[threading.Thread] = []

    def late(uc: int, address: int) -> None:
        if address // 0x1000 == FUNCTION >> 12 and not writers:
            writers.append(threading.Thread(target=changed_by, args=(lab, how, 7)))
            writers[0].start()
            writers[0].join()
        protect(uc, address)

    caches.protect = late  # type: ignore[method-assign]
    lab.load(g.CALL)
    lab.engine.start()
    lab.wait_for(lambda: lab.u64(RESULTS + 8) > 1000)
    if not writers:
        changed_by(lab, how, 7)  # the hook needs no first code
    lab.wait_for(lambda: lab.u64(RESULTS) == 7)
    lab.engine.pause()


def test_what_was_written_before_a_turn_is_not_stale_in_it() -> None:
    """Disk blocks that are read and then executed cost no second translation."""
    if alias.patch() is None:
        pytest.skip("the hook has no notes")
    with bench() as lab:
        caches = lab.engine._caches
        caches.begin()
        caches.wrote(FUNCTION - 1, 0x1002)
        assert sum(caches._noted) == 3
        assert not caches.stale
        caches.begin()
        assert not any(caches._noted)


def test_another_cpu_rewrites_code() -> None:
    if alias.patch() is None:
        pytest.skip("what the hook does is for one CPU")
    with bench(cpus=2) as lab:
        lab.memory.write(0xC000, g.CALLER.code)
        lab.run(g.WRITER, timeout=30)
        assert lab.u64(RESULTS + 8) == 49


def test_data_beside_code_costs_no_translation() -> None:
    """A store into a page that holds code throws away what it hits, and nothing else."""
    if alias.patch() is None:
        pytest.skip("the hook leaves that to the library")
    with bench() as lab:
        protected: list[int] = []
        caches = lab.engine._caches
        protect = caches.protect

        def noted(uc: int, address: int) -> None:
            protected.append(address)
            protect(uc, address)

        caches.protect = noted  # type: ignore[method-assign]
        lab.run(g.BESIDE)
        assert lab.u64(CODE_AT + 0x80) == 20000
        assert len(protected) < 5


def test_a_page_of_data_is_written_fast_again() -> None:
    """Code that is gone leaves no page slow."""
    if alias.patch() is None:
        pytest.skip("the hook keeps all pages slow")
    with bench() as lab:
        alias_tables(lab)
        lab.run(g.ALIAS, timeout=30)
        (one,) = lab.engine._caches._instances.values()
        assert one.own[FUNCTION >> 12]
        lab.memory.write(FUNCTION, bytes(0x1000))
        lab.engine._caches.refresh()
        assert not one.own[FUNCTION >> 12]
        assert not lab.engine._caches._counts[FUNCTION >> 12]


def test_a_row_is_given_out_once() -> None:
    patch = alias.patch()
    if patch is None:
        pytest.skip("there are no rows")
    rows = [patch.row(), patch.row()]
    for row in rows:
        assert row is not None
        row.uc = 1
    assert len({ctypes.addressof(row) for row in rows if row is not None}) == 2


_TOGETHER = """
import threading, time
from vmlab.engine.soft import kick, uclib
from vmlab.engine.soft.x86_64 import alias
counts = {"patch": 0, "kick": 0}
def slowly(name, function):
    def call(*arguments):
        counts[name] += 1
        time.sleep(0.2)
        return function(*arguments)
    return call
alias.alias_is_seen = slowly("patch", alias.alias_is_seen)
kick.Uc = slowly("kick", kick.Uc)
barrier, results = threading.Barrier(2), []
def first():
    barrier.wait()
    results.append((alias.patch(), kick.self_check()))
threads = [threading.Thread(target=first) for _ in range(2)]
for one in threads: one.start()
for one in threads: one.join()
print(sorted(counts.items()), results[0] == results[1])
"""


def test_the_first_machines_come_together() -> None:
    """The library is redirected once: two that do it store over each other's slots."""
    done = subprocess.run(
        [sys.executable, "-c", _TOGETHER], capture_output=True, text=True, timeout=60, check=True
    )
    tried = int(alias.patch() is not None)
    assert done.stdout.strip() == f"[('kick', 1), ('patch', {tried})] True"


def test_more_instances_than_rows() -> None:
    """Whoever comes too late gets the hook."""
    patch = alias.patch()
    if patch is None:
        pytest.skip("there are no rows")
    taken = [row for row in iter(patch.row, None) if not setattr(row, "uc", 2)]
    try:
        with bench() as lab:
            assert not lab.engine._caches._instances
            alias_tables(lab)
            lab.run(g.ALIAS, timeout=30)
            assert lab.results(2) == [0, 200]
    finally:
        for row in taken:
            row.uc = 1
    with bench() as lab:
        assert lab.engine._caches._instances

"""Breakpoints and watchpoints of a hart."""

from __future__ import annotations

from tests.engine.soft.riscv.guests import ACCESSES
from tests.engine.soft.riscv.lab import CODE, RESULTS, WAYS, bench
from vmlab.engine.api import Hit, Point


class _Met:
    def __init__(self) -> None:
        self.hits: list[Hit] = []

    def __call__(self, cpu: int, hit: Hit) -> None:
        self.hits.append(hit)


@WAYS
def test_code_and_memory_are_met_once_each(way: str) -> None:
    met = _Met()
    with bench(way=way, on_break=met) as lab:
        points = [Point(1, "code", CODE), Point(2, "write", RESULTS + 8, 8)]
        assert lab.engine.set_points(points) == ["software"] * 2
        lab.run(ACCESSES)
        code = [hit for hit in met.hits if hit.number == 1]
        assert [hit.pc for hit in code] == [CODE]
        written = [hit for hit in met.hits if hit.number == 2]
        assert [(hit.address, hit.size, hit.write) for hit in written] == [(RESULTS + 8, 8, True)]
        assert written[0].value == lab.results(2)[1]

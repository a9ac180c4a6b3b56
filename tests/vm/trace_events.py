"""Event logs that hypothesis makes up."""

from __future__ import annotations

from hypothesis import strategies as st

from vmlab.core.trace import ACCESSES, KINDS, TraceRecord
from vmlab.vm.trace import SavedTrace, TraceEvent

__all__ = ["WORDS", "Table", "event", "events", "log"]

NUMBERS = st.integers(0, (1 << 64) - 1)
WORDS = st.text(st.characters(codec="utf-8"), max_size=20)
OTHERS = sorted(set(KINDS) - set(ACCESSES))


class Table:
    """Names of code, by address."""

    def __init__(self, known: dict[int | None, tuple[str, str]]) -> None:
        self.known = known

    def function(self, pc: int | None) -> str:
        return self.known.get(pc, ("", ""))[0]

    def source(self, pc: int | None) -> str:
        return self.known.get(pc, ("", ""))[1]


def event(kind: str = "write", value: int = 1, pc: int | None = 0x1000) -> TraceEvent:
    """An access to register R of d0."""
    record = TraceRecord(0.5, 0, kind, "d0", "R", 4, value, pc, None, "mmio", 0xD000_0000)
    return TraceEvent._make(record)


accesses = st.builds(
    TraceEvent,
    st.floats(0, 1e6),
    st.integers(0, 255),
    st.sampled_from(ACCESSES),
    WORDS,
    WORDS,
    st.sampled_from((1, 2, 4, 8)),
    NUMBERS,
    st.none() | NUMBERS,
    st.none(),
    st.sampled_from(("mmio", "port")),
    NUMBERS,
    st.just(""),
)
others = st.builds(
    TraceEvent,
    st.floats(0, 1e6),
    st.none() | st.integers(0, 255),
    st.sampled_from(OTHERS),
    WORDS,
    WORDS,
    st.none() | st.integers(0, 240),
    st.none() | st.integers(0, 1023),
    st.none(),
    st.none() | st.integers(0, 1023),
    st.just(""),
    st.none(),
    WORDS,
)
events = st.lists(accesses | others, max_size=40)


def log(made: list[TraceEvent], names: Table | None = None) -> SavedTrace:
    return SavedTrace(made, {"arch": "x86_64", "engine": "soft"}, 3, names)

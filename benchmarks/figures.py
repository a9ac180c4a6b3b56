"""What a figure is, and how one is told."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Figure", "NotHere", "median", "show"]


class NotHere(Exception):
    """What a measurement needs is not on this host; the text says what it is and how to get it."""


def median(samples: Sequence[float]) -> float:
    return statistics.median(samples)


@dataclass
class Figure:
    """One number with its target, and where it comes from. Lower is better."""

    name: str
    value: float
    unit: str
    target: float | None = None
    #: the medians that it was computed from, by name
    of: dict[str, float] = field(default_factory=dict)
    rounds: int = 1
    #: how far apart the quarters of the rounds lie, in the figure's own unit
    spread: float = 0.0

    @property
    def met(self) -> bool | None:
        return None if self.target is None else self.value <= self.target

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"met": self.met}


def spread(samples: Sequence[float]) -> float:
    """The distance of the quartiles."""
    if len(samples) < 4:
        return max(samples) - min(samples)
    low, _, high = statistics.quantiles(samples, n=4)
    return high - low


def ratio(
    name: str,
    above: dict[str, Sequence[float]],
    below: dict[str, Sequence[float]],
    target: float | None,
) -> Figure:
    """The median of the rounds' ratios: the two of a round were measured right after one another."""
    (over, tops), (under, bottoms) = *above.items(), *below.items()
    rounds = [top / bottom for top, bottom in zip(tops, bottoms, strict=True)]
    return Figure(
        name,
        median(rounds),
        "x",
        target,
        {over: median(tops), under: median(bottoms)},
        len(rounds),
        spread(rounds),
    )


def plain(name: str, samples: Sequence[float], unit: str, target: float | None) -> Figure:
    return Figure(name, median(samples), unit, target, {}, len(samples), spread(samples))


def show(figure: Figure) -> str:
    """One line, and a second one with what it was computed from."""
    verdict = {True: "ok", False: "MISSED", None: ""}[figure.met]
    target = "" if figure.target is None else f"<= {figure.target:g} {figure.unit}"
    value = f"{figure.value:.4g} {figure.unit}"
    line = f"{figure.name:<58} {value:>10}  {target:<10} {verdict}"
    parts = [f"{name} {number:.4g}" for name, number in figure.of.items()]
    parts.append(f"{figure.rounds} rounds, quartiles {figure.spread:.2g} {figure.unit} apart")
    return f"{line.rstrip()}\n    {', '.join(parts)}"

"""Figures of a machine for a page: the map, the traps, the interrupts, accesses over time.

Each returns a matplotlib Figure that belongs to nobody's global state: a notebook shows it once, a
program saves it. Colours are told apart by the colour-blind (Okabe and Ito's set) and hold in print.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from vmlab.core.trace import AccessEvent
from vmlab.core.units import show_span
from vmlab.errors import ConfigError
from vmlab.views import hexadecimal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from vmlab.machine.config import Range
    from vmlab.vm import VM

__all__ = ["plot_irqs", "plot_map", "plot_timeline", "plot_traps"]

BLUE, ORANGE, GREEN, VERMILION, SKY, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#56B4E9",
    "#999999",
)
_KINDS = {"ram": BLUE, "mmio": ORANGE, "interrupt-controller": GREEN, "hole": "none"}
#: heights on the map, in rows: a hole is folded, RAM is what a map is mostly of
_HEIGHTS = {"ram": 2.0, "mmio": 1.0, "interrupt-controller": 1.0, "hole": 0.8}


class _Picture(Figure):
    """A figure that a notebook shows, whether pyplot was ever imported or not."""

    def _repr_png_(self) -> bytes:
        page = BytesIO()
        self.savefig(page, format="png")
        return page.getvalue()


def _figure(size: tuple[float, float]) -> tuple[Figure, Axes]:
    figure = _Picture(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _bare(axes: Axes, *sides: str) -> None:
    """Lines around the drawing carry no data: take those away."""
    for side in sides:
        axes.spines[side].set_visible(False)


def plot_map(vm: VM) -> Figure:
    """The guest's physical address space, low addresses at the bottom, holes folded."""
    ranges = vm.address_map
    figure, axes = _figure((6.0, 0.6 + 0.36 * sum(_HEIGHTS[one.kind] for one in ranges)))
    bottom = 0.0
    for one in ranges:
        bottom += _draw_range(axes, one, bottom)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, bottom)
    axes.axis("off")
    axes.set_title("Guest physical address space", loc="left")
    return figure


def _draw_range(axes: Axes, one: Range, bottom: float) -> float:
    height = _HEIGHTS[one.kind]
    hole = one.kind == "hole"
    axes.bar(
        0.46,
        height,
        width=0.34,
        bottom=bottom,
        color=_KINDS[one.kind],
        edgecolor=GREY if hole else "white",
        linestyle=":" if hole else "-",
        alpha=0.9,
    )
    size = show_span(one.size)
    middle = bottom + height / 2
    style: dict[str, Any] = {"va": "center", "fontsize": 9}
    if hole:
        axes.text(0.46, middle, f"hole, {size}", ha="center", color=GREY, **style)
    else:
        axes.text(
            0.28,
            bottom + 0.1,
            hexadecimal(one.start),
            ha="right",
            family="monospace",
            **style | {"va": "bottom"},
        )
        axes.text(0.65, middle, f"{one.name}  ({size})", ha="left", **style)
    return height


def plot_traps(vm: VM, top: int = 12) -> Figure:
    """The registers that trapped most, reads and writes apart."""
    if top < 1:
        raise ConfigError(f"the {top} busiest registers; ask for 1 at least")
    rows = sorted(
        (
            (register.reads + register.writes, f"{id}.{name}", register.reads, register.writes)
            for id, counts in vm.traps.items()
            for name, register in counts.registers.items()
            if register.reads or register.writes
        ),
        reverse=True,
    )[:top]
    figure, axes = _figure((6.4, 1.1 + 0.3 * max(len(rows), 1)))
    rows.reverse()
    labels = [row[1] for row in rows]
    reads, writes = [row[2] for row in rows], [row[3] for row in rows]
    axes.barh(labels, reads, color=BLUE, label="reads")
    axes.barh(labels, writes, left=reads, color=ORANGE, label="writes")
    for row, total in enumerate(row[0] for row in rows):
        axes.annotate(
            f"{total:,}",
            (total, row),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.margins(x=0.12)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("accesses that trapped")
    axes.set_title("Traps by register", loc="left")
    if rows:
        axes.legend(frameon=False, loc="lower right")
    else:
        axes.set_yticks([])
        axes.text(
            0.5, 0.5, "nothing has trapped yet", transform=axes.transAxes, ha="center", color=GREY
        )
    _bare(axes, "top", "right")
    return figure


def plot_irqs(vm: VM) -> Figure:
    """How often each interrupt line was raised."""
    rows = vm.irqs
    figure, axes = _figure((6.4, 2.6))
    labels = [f"{row.line}\n{row.device}" for row in rows]
    bars = axes.bar(labels, [row.raised for row in rows], color=VERMILION, width=0.6)
    axes.bar_label(bars, [f"{row.raised:,}" for row in rows], padding=2, fontsize=8)
    axes.margins(y=0.15)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("times raised")
    axes.set_xlabel("interrupt line")
    axes.set_title("Interrupts by line", loc="left")
    _bare(axes, "top", "right")
    return figure


def plot_timeline(events: Sequence[AccessEvent]) -> Figure:
    """Accesses over time, a row a device: the entries of a `vm.trace()`."""
    events = list(events)
    names = sorted({event.device or "unmapped" for event in events})
    figure, axes = _figure((7.2, 1.1 + 0.32 * max(len(names), 1)))
    for write, colour, marker, label in ((False, BLUE, "|", "read"), (True, ORANGE, "|", "write")):
        chosen = [event for event in events if event.write is write]
        offset = 0.14 if write else -0.14
        axes.plot(
            [event.time * 1e3 for event in chosen],
            [names.index(event.device or "unmapped") + offset for event in chosen],
            linestyle="none",
            marker=marker,
            markersize=9,
            color=colour,
            label=label,
        )
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, max(len(names), 1) - 0.4)
    axes.set_xlabel("milliseconds since the log began")
    axes.set_title("Accesses over time", loc="left")
    if events:
        axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderpad=0)
    else:
        axes.text(0.5, 0.5, "the log is empty", transform=axes.transAxes, ha="center", color=GREY)
    _bare(axes, "top", "right", "left")
    axes.grid(axis="y", color=GREY, alpha=0.2)
    return figure

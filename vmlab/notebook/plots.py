"""Figures of a machine for a page: the map, the traps, the interrupts.

Each returns a matplotlib Figure that belongs to nobody's global state: a notebook shows it once, a
program saves it. Its title says of which machine it is, and `alt` says in words what it shows.
"""

from __future__ import annotations

from base64 import b64encode
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from vmlab.core.units import show_span
from vmlab.errors import ConfigError, DeviceNotFound
from vmlab.notebook.palette import BLUE, GREY, KINDS, ORANGE, VERMILION
from vmlab.vm.views import hexadecimal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from vmlab.machine.config import Range
    from vmlab.vm import VM

__all__ = ["Picture", "name_of", "plot_irqs", "plot_map", "plot_traps"]

#: heights on the map, in rows: a hole is folded, RAM is what a map is mostly of
_HEIGHTS = {"ram": 2.0, "mmio": 1.0, "interrupt-controller": 1.0, "hole": 0.8}


class Picture(Figure):
    """A figure that a notebook shows, whether pyplot was ever imported or not. alt: what it shows, in
    words, for those who do not see it."""

    alt = ""

    def _repr_png_(self) -> bytes:
        page = BytesIO()
        self.savefig(page, format="png", metadata={"Description": self.alt})
        return page.getvalue()

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The picture, and as HTML with its words: JupyterLab gives a bare picture none."""
        data = b64encode(self._repr_png_()).decode()
        shown = f'<img alt="{escape(self.alt)}" src="data:image/png;base64,{data}">'
        bundle = {"text/plain": self.alt, "image/png": data, "text/html": shown}
        return bundle, {"image/png": {"alt": self.alt}}


def _figure(size: tuple[float, float]) -> tuple[Picture, Axes]:
    figure = Picture(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _bare(axes: Axes, *sides: str) -> None:
    """Lines around the drawing carry no data: take those away."""
    for side in sides:
        axes.spines[side].set_visible(False)


def name_of(vm: VM) -> str:
    return str(getattr(vm, "name", vm.config.name))


def _titled(axes: Axes, what: str, *whose: str) -> str:
    """What is shown, and of which machine and device."""
    title = ": ".join([what, ", ".join(one for one in whose if one)]) if any(whose) else what
    axes.set_title(title, loc="left")
    return title


def _empty(axes: Axes, words: str) -> None:
    axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", color=GREY)


# --- the map ------------------------------------------------------------------------------------------


def plot_map(vm: VM) -> Picture:
    """The guest's physical address space, low addresses at the bottom, holes folded."""
    ranges = vm.address_map
    figure, axes = _figure((6.0, 0.6 + 0.36 * sum(_HEIGHTS[one.kind] for one in ranges)))
    bottom = 0.0
    for one in ranges:
        bottom += _draw_range(axes, one, bottom)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, bottom)
    axes.axis("off")
    title = _titled(axes, "Guest physical address space", name_of(vm))
    named = [one for one in ranges if one.kind != "hole"]
    parts = ", ".join(f"{one.name} at {hexadecimal(one.start)}" for one in named)
    figure.alt = f"{title}. From low addresses to high: {parts}."
    return figure


def _draw_range(axes: Axes, one: Range, bottom: float) -> float:
    height = _HEIGHTS[one.kind]
    hole = one.kind == "hole"
    axes.bar(
        0.46,
        height,
        width=0.34,
        bottom=bottom,
        color=KINDS[one.kind],
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


# --- counts -------------------------------------------------------------------------------------------


def plot_traps(vm: VM, top: int = 12, *, device: str | None = None, log: bool = False) -> Picture:
    """The registers that trapped most, reads and writes apart.

    device: only those of one. log: a logarithmic axis, on which a console that talks much dwarfs nobody;
    a bar is a register's total then. DeviceNotFound when there is no such device."""
    if top < 1:
        raise ConfigError(f"the {top} busiest registers; ask for 1 at least")
    rows = _busiest(vm, device)[:top]
    figure, axes = _figure((6.4, 1.1 + 0.3 * max(len(rows), 1)))
    rows.reverse()
    labels = [row[1] for row in rows]
    totals = [row[0] for row in rows]
    if log:
        axes.barh(labels, totals, color=BLUE)
        axes.set_xscale("log")
        axes.set_xlim(left=0.8)  # so that a single access is a bar as well
    else:
        reads = [row[2] for row in rows]
        axes.barh(labels, reads, color=BLUE, label="reads")
        axes.barh(labels, [row[3] for row in rows], left=reads, color=ORANGE, label="writes")
    _say_totals(axes, totals)
    axes.margins(x=0.12)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("accesses that trapped" + (", logarithmic" if log else ""))
    title = _titled(axes, "Traps by register", name_of(vm), device or "")
    if not rows:
        axes.set_yticks([])
        _empty(axes, "nothing has trapped yet")
    elif not log:
        axes.legend(frameon=False, loc="lower right")
    _bare(axes, "top", "right")
    parts = [f"{name} {reads:,} reads and {writes:,} writes" for _, name, reads, writes in rows]
    figure.alt = f"{title}. {'; '.join(reversed(parts)) or 'Nothing has trapped yet'}."
    return figure


def _busiest(vm: VM, device: str | None) -> list[tuple[int, str, int, int]]:
    """(accesses, "device.REGISTER", reads, writes), the most first."""
    traps = vm.traps
    if device is not None and device not in traps:
        raise DeviceNotFound(f"{device!r}; there are {', '.join(traps)}")
    return sorted(
        (
            (register.reads + register.writes, f"{id}.{name}", register.reads, register.writes)
            for id, counts in traps.items()
            for name, register in counts.registers.items()
            if device in (None, id) and (register.reads or register.writes)
        ),
        reverse=True,
    )


def _say_totals(axes: Axes, totals: list[int]) -> None:
    for row, total in enumerate(totals):
        axes.annotate(
            f"{total:,}",
            (total, row),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )


def plot_irqs(vm: VM, *, device: str | None = None, log: bool = False) -> Picture:
    """How often each interrupt line was raised.

    device: only its lines. log: a logarithmic axis. DeviceNotFound when there is no such device."""
    if device is not None and device not in vm.devices:
        raise DeviceNotFound(f"{device!r}; there are {', '.join(vm.devices)}")
    rows = [row for row in vm.irqs if device is None or device in row.device.split(", ")]
    figure, axes = _figure((6.4, 2.6))
    labels = [f"{row.line}\n{row.device}" for row in rows]
    bars = axes.bar(labels, [row.raised for row in rows], color=VERMILION, width=0.6)
    axes.bar_label(bars, [f"{row.raised:,}" for row in rows], padding=2, fontsize=8)
    axes.margins(y=0.15)
    if log:
        axes.set_yscale("symlog")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    else:
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("times raised" + (", logarithmic" if log else ""))
    axes.set_xlabel("interrupt line")
    title = _titled(axes, "Interrupts by line", name_of(vm), device or "")
    if not rows:
        _empty(axes, "no line is held")
    _bare(axes, "top", "right")
    parts = [f"line {row.line} of {row.device} {row.raised:,} times" for row in rows]
    figure.alt = f"{title}. {'; '.join(parts) or 'No line is held'}."
    return figure


# --- over time ----------------------------------------------------------------------------------------

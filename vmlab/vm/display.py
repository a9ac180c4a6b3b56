"""How a VM shows itself in a notebook: functions that `VM` has as methods. The notebook's packages are loaded
when first asked for."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from vmlab.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vmlab.core.trace import TraceRecord
    from vmlab.notebook.console import ConsoleView
    from vmlab.notebook.controls import ControlsView
    from vmlab.notebook.hotplug import HotplugView
    from vmlab.notebook.irq import IrqView
    from vmlab.notebook.lab import Lab
    from vmlab.notebook.log import LogView
    from vmlab.notebook.map import MapView
    from vmlab.notebook.registers import RegistersView
    from vmlab.notebook.screen import ScreenView
    from vmlab.notebook.traps import TrapView
    from vmlab.vm.vm import VM

__all__ = [
    "console_view",
    "controls_view",
    "hotplug_view",
    "irq_view",
    "lab",
    "log_view",
    "map_view",
    "mimebundle",
    "plot_irqs",
    "plot_map",
    "plot_timeline",
    "plot_traps",
    "regs_view",
    "screen_view",
    "trap_view",
]


def _load(module: str) -> Any:
    """A module of `vmlab.notebook`; in words what to install when its packages are missing."""
    try:
        return import_module(f"vmlab.notebook.{module}")
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("vmlab"):
            raise
        raise ConfigError(f"{error.name} is not installed: pip install 'vmlab[lab]'") from error


def lab(vm: VM, height: int = 620) -> Lab:
    """The dashboard, live. height: in pixels, where there is room for two columns."""
    return _load("lab").Lab(vm, height)  # type: ignore[no-any-return]


def controls_view(vm: VM) -> ControlsView:
    """State, exits and traps a second, and the buttons that make sense now."""
    return _load("controls").ControlsView(vm)  # type: ignore[no-any-return]


def map_view(vm: VM) -> MapView:
    """The address map, live."""
    return _load("map").MapView(vm)  # type: ignore[no-any-return]


def irq_view(vm: VM) -> IrqView:
    """The interrupt lines, live."""
    return _load("irq").IrqView(vm)  # type: ignore[no-any-return]


def trap_view(vm: VM) -> TrapView:
    """The devices and their traps, live; a row opens to its registers."""
    return _load("traps").TrapView(vm)  # type: ignore[no-any-return]


def regs_view(vm: VM, id: str) -> RegistersView:
    """The registers of the device `id`, live. DeviceNotFound when there is no such device."""
    return _load("registers").RegistersView(vm, id)  # type: ignore[no-any-return]


def console_view(vm: VM, name: str | None = None, height: int = 360) -> ConsoleView:
    """A terminal on one of `vm.consoles`; None: the serial port. height: in pixels."""
    return _load("console").ConsoleView(vm, name, height)  # type: ignore[no-any-return]


def screen_view(vm: VM) -> ScreenView:
    """The text screen of a PC, which takes keys. StateError where the machine has none."""
    return _load("screen").ScreenView(vm)  # type: ignore[no-any-return]


def log_view(vm: VM) -> LogView:
    """The device log: what devices printed while no cell ran, what guests did wrong, what failed."""
    return _load("log").LogView(vm)  # type: ignore[no-any-return]


def hotplug_view(vm: VM) -> HotplugView:
    """Plug devices in and out."""
    return _load("hotplug").HotplugView(vm)  # type: ignore[no-any-return]


def mimebundle(vm: VM, **options: Any) -> Any:
    """The dashboard in a notebook; elsewhere, and without the notebook's packages, the `repr`."""
    from vmlab.vm import connection

    if not connection.in_notebook():
        return {"text/plain": repr(vm)}
    try:
        data, metadata = _load("lab").lab_of(vm)._repr_mimebundle_(**options)
    except ConfigError:
        return {"text/plain": repr(vm)}
    return {**data, "text/plain": repr(vm)}, metadata


def plot_map(vm: VM) -> Figure:
    """The address space, drawn for a page."""
    return _load("plots").plot_map(vm)  # type: ignore[no-any-return]


def plot_traps(vm: VM, top: int = 12, *, device: str | None = None, log: bool = False) -> Figure:
    """The `top` registers that trapped most, of all devices or of one; log: a logarithmic axis."""
    return _load("plots").plot_traps(vm, top, device=device, log=log)  # type: ignore[no-any-return]


def plot_irqs(vm: VM, *, device: str | None = None, log: bool = False) -> Figure:
    """How often each interrupt line was raised, of all devices or of one; log: a logarithmic axis."""
    return _load("plots").plot_irqs(vm, device=device, log=log)  # type: ignore[no-any-return]


def plot_timeline(
    vm: VM,
    events: Sequence[TraceRecord],
    *,
    device: str | None = None,
    start: float | None = None,
    end: float | None = None,
    log: bool = False,
) -> Figure:
    """The entries of a `vm.trace()` over time: a row a register, an interrupt line (a bar while it is up), a
    console, a queue; of all devices or of one. start, end: seconds since the log began. log: a logarithmic
    axis of time."""
    name = _load("plots").name_of(vm)
    return _load("timeline").plot_timeline(  # type: ignore[no-any-return]
        events, device=device, start=start, end=end, log=log, machine=name
    )

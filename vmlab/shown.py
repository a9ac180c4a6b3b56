"""How a VM shows itself in a notebook. The notebook's packages are loaded when first asked for."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from vmlab.core.trace import AccessEvent
from vmlab.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Shown"]


def _load(module: str) -> Any:
    """A module of `vmlab.notebook`; in words what to install when its packages are missing."""
    try:
        return import_module(f"vmlab.notebook.{module}")
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("vmlab"):
            raise
        raise ConfigError(f"{error.name} is not installed: pip install 'vmlab[lab]'") from error


class Shown:
    """Mixed into `VM`."""

    def plot_map(self) -> Figure:
        """The address space, drawn for a page."""
        return _load("plots").plot_map(self)  # type: ignore[no-any-return]

    def plot_traps(self, top: int = 12) -> Figure:
        """The `top` registers that trapped most."""
        return _load("plots").plot_traps(self, top)  # type: ignore[no-any-return]

    def plot_irqs(self) -> Figure:
        """How often each interrupt line was raised."""
        return _load("plots").plot_irqs(self)  # type: ignore[no-any-return]

    def plot_timeline(self, events: Sequence[AccessEvent]) -> Figure:
        """Accesses over time: the entries of a `vm.trace()`."""
        return _load("plots").plot_timeline(events)  # type: ignore[no-any-return]

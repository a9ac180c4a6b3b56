"""One palette for figures and live views (`frontend/src/shared/base.css` has the same): Okabe and Ito's,
which the colour-blind tell apart and which holds in print."""

from __future__ import annotations

__all__ = ["BLUE", "GREEN", "GREY", "KINDS", "ORANGE", "PURPLE", "VERMILION"]

BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
VERMILION, PURPLE, GREY = "#D55E00", "#CC79A7", "#6E6E6E"
#: a range of the address map by its kind
KINDS = {"ram": BLUE, "mmio": PURPLE, "interrupt-controller": GREEN, "hole": "none"}

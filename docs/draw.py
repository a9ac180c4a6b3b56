"""The drawings of the explanation. The house is drawn from the contract that `lint-imports` holds; the ways of an
access and of a request from lists of what they pass, whose names `tests/docs` looks up in the code."""

from __future__ import annotations

import importlib
import tomllib
from html import escape
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 720


class Stop(NamedTuple):
    """Something passed. name: where it is in the code, "" for what is not ours."""

    name: str
    does: str


ACCESS = [
    Stop("", "guest: mov [0xd0000004], eax"),
    Stop(
        "vmlab.engine.kvm.vcpu",
        "KVM_EXIT_MMIO; in software the memory hook of vmlab.engine.soft.access",
    ),
    Stop(
        "vmlab.core.bus.Bus",
        "one bisection in an immutable map; a hole is counted, and reads all ones",
    ),
    Stop("vmlab.core.device.Device", "the device's compiled dispatch"),
    Stop(
        "vmlab.core.dispatch.Accessors.write",
        "one look-up by (offset, size), one closure: lock, value, handler, line",
    ),
    Stop("vmlab.core.counters.Block", "counts go to shared memory: views read them there"),
]
REQUEST = [
    Stop("", "guest: a chain in its ring, then QueueNotify"),
    Stop("vmlab.engine.api.Engine.doorbell", "ioeventfd: no trap, a kick is counted"),
    Stop(
        "vmlab.virtio.transport.VirtioTransport.wake",
        "marks the queue, wakes the device's own thread",
    ),
    Stop(
        "vmlab.virtio.queue.Virtqueue.pop",
        "every index, address and length is checked; a turn is bounded",
    ),
    Stop(
        "vmlab.virtio.device.VirtioDevice.handle",
        "the device's own code; views are the guest's memory",
    ),
    Stop(
        "vmlab.virtio.queue.Virtqueue.push",
        "used ring, InterruptStatus, line up until the driver has acknowledged",
    ),
]
YOURS = [
    Stop("vmlab.vm.vm.VM", "what you hold"),
    Stop("vmlab.monitor.session.MonitorSession", "sends commands"),
    Stop("vmlab.monitor.observation.Observation", "reads counts"),
]
MONITOR = [
    Stop("vmlab.monitor.server.Server", "takes commands"),
    Stop("vmlab.machine.machine.Machine", "runs the guest"),
    Stop("vmlab.core.counters.CounterPage", "counts"),
]
BETWEEN = ["socket: messages", "guest memory, shared", "counters, shared"]


def layers() -> list[list[str]]:
    """The house from the roof down: modules of a row do not know one another."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = next(
        each for each in settings["tool"]["importlinter"]["contracts"] if each["type"] == "layers"
    )
    return [[name.strip(" ()") for name in row.split("|")] for row in contract["layers"]]


def about(name: str) -> str:
    """The first sentence of the module's docstring."""
    text = importlib.import_module(f"vmlab.{name}").__doc__ or ""
    return text.strip().splitlines()[0].rstrip(".") if text else ""


# --- drawing --------------------------------------------------------------------------------------------


def box(x: int, y: int, width: int, height: int, title: str, text: str = "") -> str:
    middle = y + (height // 2 if text == "" else height // 2 - 7)
    parts = [
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="5" fill="currentColor"'
        ' fill-opacity="0.06" stroke="currentColor" stroke-opacity="0.45"/>',
        words(x + 12, middle + 5, title, bold=True),
    ]
    if text:
        parts.append(words(x + 12, middle + 23, text))
    return "".join(parts)


def words(x: int, y: int, text: str, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ' font-size="12.5"'
    return f'<text x="{x}" y="{y}" fill="currentColor"{weight}>{escape(text)}</text>'


def arrow(x: int, top: int, bottom: int) -> str:
    return (
        f'<path d="M{x} {top}V{bottom - 2}M{x - 4} {bottom - 7}l4 5l4 -5" fill="none" stroke="currentColor"'
        ' stroke-opacity="0.7"/>'
    )


def across(left: int, right: int, y: int, text: str) -> str:
    return (
        f'<path d="M{left} {y}H{right}M{left + 6} {y - 4}l-6 4l6 4M{right - 6} {y - 4}l6 4l-6 4" fill="none"'
        f' stroke="currentColor" stroke-opacity="0.7"/>{words(left + 8, y - 8, text)}'
    )


def picture(label: str, width: int, height: int, parts: list[str]) -> str:
    return (
        f'<figure class="drawing"><svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        f' width="{width}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg></figure>'
    )


def house() -> str:
    parts, y = [], 4
    for row in layers():
        width = (WIDTH - 8 * (len(row) - 1)) // len(row)
        # beside others there is no room for a sentence
        told = [about(name) if len(row) == 1 and name != "__main__" else "" for name in row]
        parts += [
            box(index * (width + 8), y, width, 44, f"vmlab.{name}", told[index][:100])
            for index, name in enumerate(row)
        ]
        y += 52
    return picture("The layers of vmlab: imports go downwards only", WIDTH, y, parts)


def way(label: str, stops: list[Stop]) -> str:
    parts, y = [], 4
    for index, stop in enumerate(stops):
        title, text = (stop.name, stop.does) if stop.name else (stop.does, "")
        if index:
            parts.append(arrow(28, y, y + 20))
            y += 20
        parts.append(box(0, y, WIDTH, 46, title, text))
        y += 46
    return picture(label, WIDTH, y + 4, parts)


def processes() -> str:
    half, parts = (
        272,
        [words(12, 18, "your process", True), words(452, 18, "the monitor process", True)],
    )
    for row, (left, right, between) in enumerate(zip(YOURS, MONITOR, BETWEEN, strict=True)):
        y = 30 + row * 64
        short = [stop.name.rpartition(".")[0].removeprefix("vmlab.") for stop in (left, right)]
        parts += [
            box(0, y, half, 50, left.name.rpartition(".")[2], f"{short[0]}: {left.does}"),
            box(440, y, half + 6, 50, right.name.rpartition(".")[2], f"{short[1]}: {right.does}"),
            across(half + 2, 438, y + 32, between),
        ]
    return picture("Two processes and what they share", WIDTH, 228, parts)


def stops() -> list[Stop]:
    return [*ACCESS, *REQUEST, *YOURS, *MONITOR]


def pages() -> dict[str, str]:
    return {
        "house": "# The house\n\nImports go downwards only; `lint-imports` holds it, and this is drawn from what it"
        f" holds. What stands side by side does not know of its neighbour.\n\n{house()}\n",
        "access": f"# The way of an access\n\n{way('The way of an access', ACCESS)}\n\nTracing swaps the bus's methods,"
        " so that it costs nothing while it is off. A handler that raises parks the CPU at that access: the device"
        " can be replaced, and the guest goes on.\n",
        "request": f"# The way of a virtio request\n\n{way('The way of a virtio request', REQUEST)}\n\nA ring that breaks"
        " the rules becomes NEEDS_RESET and a counted mistake, never an exception.\n",
        "processes": f"# Processes\n\n{processes()}\n\nA busy notebook does not slow the guest, and neither can take"
        " the other down. Nothing that comes back is ever unpickled.\n",
    }

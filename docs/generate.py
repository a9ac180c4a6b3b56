"""Pages that are derived: the notebooks, a page for each public name, every register table, the command line, and
the drawings. Sphinx is not needed to make them."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Iterator
from html import escape
from importlib import import_module
from pathlib import Path

import draw

from vmlab import arch, catalogue
from vmlab.core.device import Device
from vmlab.core.trace import GROUPS, KINDS
from vmlab.devices.hotplug import HotPlug
from vmlab.machine import board
from vmlab.machine.board import FixedHooks
from vmlab.regs import Register, Registers

ROOT = Path(__file__).resolve().parent.parent
#: title -> the modules whose `__all__` is public, and what of them has pages of its own
PUBLIC = {
    "vmlab": "vmlab",
    "Virtio devices": "vmlab.virtio",
    "Testing": "vmlab.testing",
    "Views of a machine": "vmlab.vm.views",
    "Consoles": "vmlab.vm.console",
    "State": "vmlab.vm.state",
    "A CPU on a page": "vmlab.vm.cpu_state",
    "Code": "vmlab.vm.disassembly",
    "Virtqueues": "vmlab.vm.queue",
    "Event log": "vmlab.vm.trace",
    "Event logs compared": "vmlab.vm.trace_diff",
    "Device log": "vmlab.vm.device_log",
    "Device manager": "vmlab.core.manager",
    "Kernel command line": "vmlab.core.cmdline",
    "Errors": "vmlab.errors",
    "Architectures": "vmlab.arch.api",
}


def write(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    for path, text in pages().items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_text(text, encoding="utf-8")
    tutorial = place / "tutorial"
    tutorial.mkdir()
    names = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9g]*.ipynb"))
    for name in names:
        shutil.copy(ROOT / "notebooks" / f"{name}.ipynb", tutorial)
    (tutorial / "index.md").write_text(tutorial_index(names), encoding="utf-8")


def tutorial_index(names: list[str]) -> str:
    return (
        "# Tutorial\n\nThe notebooks, with their outputs. `make lab` opens them to work in.\n\n"
        + toctree(names)
    )


def toctree(entries: list[str]) -> str:
    return "```{toctree}\n:maxdepth: 1\n\n" + "".join(f"{entry}\n" for entry in entries) + "```\n"


def pages() -> dict[str, str]:
    """Path below docs/generated -> text."""
    found = {f"reference/{name}.md": text for name, text in reference()}
    found["reference/registers.md"] = registers()
    found["reference/command.md"] = command()
    found["reference/events.md"] = events()
    index = sorted(path.removeprefix("reference/").removesuffix(".md") for path in found)
    found["reference/index.md"] = (
        "# Reference\n\nA page for each public name; the register tables and the command line are printed from"
        " themselves.\n\n" + toctree(index)
    )
    found |= {f"explanation/{name}.md": text for name, text in draw.pages().items()}
    return found


def names(module: str) -> list[str]:
    return [str(name) for name in import_module(module).__all__]


def reference() -> Iterator[tuple[str, str]]:
    """(file name, text) of each public name, by the first that it has; submodules have none."""
    described: list[object] = []
    for title, module in PUBLIC.items():
        for name in names(module):
            value = getattr(import_module(module), name)
            if any(value is one for one in described):
                continue
            described.append(value)
            if inspect.ismodule(value):
                yield f"{module}.{name}", page_of_module(f"{module}.{name}", value.__name__)
            else:
                yield f"{module}.{name}", page(title, module, name, value)


def page_of_module(title: str, module: str) -> str:
    return f"# {title}\n\n```{{eval-rst}}\n.. automodule:: {module}\n   :members:\n```\n"


def page(title: str, module: str, name: str, value: object) -> str:
    home = getattr(value, "__module__", module)
    where = f"{home}.{getattr(value, '__qualname__', name)}"
    if inspect.isclass(value):
        members = "\n   :members:\n   :inherited-members: int, str, list, dict, Exception, BaseException, Mapping"
        directive = f".. autoclass:: {where}{members}"
    elif inspect.isroutine(value):
        directive = f".. autofunction:: {where}"
    else:
        directive = f".. autodata:: {module}.{name}"
    return f"# {module}.{name}\n\n*{title}*\n\n```{{eval-rst}}\n{directive}\n```\n"


# --- register tables ------------------------------------------------------------------------------------


def tables() -> dict[str, type[Registers]]:
    """Device -> its table: the boards', those that can be asked for by name, and the transport that all virtio
    devices share."""

    def nothing(*_: object) -> None:
        """Nobody runs them."""

    shown = memoryview(bytearray(8)).cast("Q")
    hooks = FixedHooks(*[nothing] * len(FixedHooks._fields))._replace(screen=shown)
    boards = [board.get(arch.machine(name)) for name in arch.HOMES]
    fixed = [one for each in boards for one in each.fixed_devices(hooks, HotPlug())]
    listed = map(catalogue.class_of, catalogue.CATALOGUE)
    kinds = [*(type(each.device) for each in fixed), *listed]
    found = {cls.type: cls.regs for cls in kinds if issubclass(cls, Device)}
    transports = import_module("vmlab.virtio.registers")
    found["virtio-mmio"] = transports.MmioRegisters
    found["virtio-mmio, legacy"] = transports.LegacyRegisters
    return dict(sorted(found.items()))


def registers() -> str:
    text = "# Registers\n\nEvery table as its device declares it. Offsets and bit numbers from zero, widths in bits.\n"
    for name, table in tables().items():
        text += f"\n## {name}\n\n| offset | register | width | access | reset | |\n|---|---|---|---|---|---|\n"
        text += "".join(row(each) for each in table.table)
    return text


def row(register: Register) -> str:
    about = cell(register.doc) + (f" ({cell(register.spec)})" if register.spec else "")
    for bits in register.fields.values():
        last = bits.low + bits.width - 1
        place = f"{last}:{bits.low}" if bits.width > 1 else f"{bits.low}"
        words = ", ".join(f"{value} {word}" for value, word in bits.values.items())
        about += f"<br>`{bits.name}` {place}: {cell(bits.doc)}" + (
            f" ({cell(words)})" if words else ""
        )
    when = f"<br>only while {register.when[0]} selects it" if register.when else ""
    width = f"{register.size} bytes" if register.access == "block" else f"{register.width}"
    return (
        f"| {register.offset:#04x} | `{register.name}` | {width} | {register.access} | {register.reset:#x} |"
        f" {about}{when} |\n"
    )


def cell(text: str) -> str:
    return escape(text).replace("|", "\\|")


def events() -> str:
    """The kinds of events, as a log names them."""
    text = "# Kinds of events\n\n| kind | | also by |\n|---|---|---|\n"
    for kind, about in KINDS.items():
        groups = ", ".join(f"`{name}`" for name, kinds in GROUPS.items() if kind in kinds)
        text += f"| `{kind}` | {cell(about)} | {groups} |\n"
    return text


# --- the command line -----------------------------------------------------------------------------------


def command() -> str:
    """From its parser."""
    from vmlab.cli.command import parsers

    text = "# The command\n"
    for name, parser in parsers().items():
        text += f"\n## {name}\n\n```text\n{parser.format_help().rstrip()}\n```\n"
    return text

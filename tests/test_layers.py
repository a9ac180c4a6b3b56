"""What importing costs and needs. The contracts between the layers themselves are in pyproject.toml
(`lint-imports`, part of `make test`); here is what only a running interpreter can tell."""

from __future__ import annotations

import functools
import inspect
import json
import os
import subprocess
import sys
import textwrap
from typing import Any

import pytest

from tests.support import ROOT, require_module
from vmlab import VM

#: what no script that only says `import vmlab` should wait for
HEAVY = [
    "anywidget",
    "IPython",
    "ipywidgets",
    "matplotlib",
    "numpy",
    "rich",
    "traitlets",
    "unicorn",
]

#: what of the standard library is Linux's alone; every other system lacks these names
LINUX_ONLY = {
    "fcntl": ["F_ADD_SEALS", "F_GET_SEALS", "F_SETPIPE_SZ"],
    "mmap": ["MADV_DONTFORK", "MADV_HUGEPAGE", "MAP_POPULATE"],
    "os": [
        *("eventfd", "eventfd_read", "eventfd_write", "EFD_CLOEXEC", "EFD_NONBLOCK"),
        *("memfd_create", "MFD_CLOEXEC", "MFD_ALLOW_SEALING", "pidfd_open", "splice"),
        *("sched_getaffinity", "sched_setaffinity", "getrandom", "timerfd_create"),
    ],
    "select": ["epoll", "EPOLLIN", "EPOLLOUT", "EPOLLHUP", "EPOLLERR", "EPOLLET", "EPOLL_CLOEXEC"],
    "signal": ["sigtimedwait", "sigwaitinfo", "pidfd_send_signal", "SIGRTMIN", "SIGRTMAX"],
    "socket": ["SO_PASSCRED", "SO_PEERCRED", "SCM_CREDENTIALS", "AF_PACKET", "AF_VSOCK"],
    "time": ["CLOCK_BOOTTIME"],
}


def fresh(code: str) -> str:
    """What `code` prints in an interpreter of its own, which no coverage measures."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("COV", "COVERAGE"))
    }
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def modules() -> list[str]:
    """Every module of the package, by name."""
    names = []
    for path in sorted((ROOT / "vmlab").rglob("*.py")):
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        if parts[-1] != "__main__":
            names.append(".".join(parts))
    return names


@pytest.mark.parametrize("statement", ["import vmlab", "from vmlab import VM"])
def test_import_is_light(statement: str) -> None:
    loaded = set(fresh(f"import sys; {statement}; print('\\n'.join(sys.modules))").split())
    assert loaded.isdisjoint(HEAVY), sorted(loaded.intersection(HEAVY))
    own = {name for name in loaded if name.startswith(("vmlab.notebook", "vmlab.engine."))}
    assert own <= {"vmlab.engine.api"}, sorted(own)


def test_public_names_are_there() -> None:
    fresh("from vmlab import VM, Device, Registers, kernels; kernels.path('hello')")


def test_what_a_machine_needs_comes_with_the_first_one() -> None:
    """msgspec, the wire's records and the processes' module are most of what a VM costs to import."""
    needs = {
        "msgspec",
        "subprocess",
        "vmlab.core.device",
        "vmlab.monitor.wire",
        "vmlab.vm.connection",
    }
    code = "import sys; {}; print('\\n'.join(sys.modules))"
    assert not needs & set(fresh(code.format("from vmlab import VM")).split())
    made = set(fresh(code.format("import vmlab; vmlab.VM()")).split())
    assert needs - {"subprocess"} <= made
    assert not {"inspect", "typing_extensions", "logging", "html"} & made


def test_msgspec_comes_without_typing_extensions_and_leaves_it_as_it_was() -> None:
    code = """
        import sys, threading
        from vmlab.core.lean import load_msgspec
        if {waits}:
            threading.Thread(target=threading.Event().wait, daemon=True).start()
        load_msgspec()
        print("msgspec" in sys.modules, "typing_extensions" in sys.modules)
        from msgspec import Struct
        from typing_extensions import Required, TypedDict
        import msgspec
        class Row(TypedDict, total=False):
            name: Required[str]
        print(msgspec.json.decode(b'{{"name": "a"}}', type=Row)["name"])
        try:
            msgspec.json.decode(b"{{}}", type=Row)
        except msgspec.ValidationError as error:
            print(error)
        """
    missing = "Object missing required field `name`"
    assert fresh(code.format(waits=False)).splitlines() == ["True False", "a", missing]
    # it would be missing for the other thread
    assert fresh(code.format(waits=True)).splitlines() == ["False False", "a", missing]


def test_every_module_but_the_kvm_engine_imports_without_linux() -> None:
    code = f"""
        import importlib, json, sys

        for module, names in {LINUX_ONLY!r}.items():
            module = importlib.import_module(module)
            for name in names:
                if hasattr(module, name):
                    delattr(module, name)

        broken, absent = {{}}, []
        for name in {modules()!r}:
            if name.startswith("vmlab.engine.kvm") or name == "vmlab.testing.fake_kvm":
                continue  # Linux's own, and what is made of its structures
            try:
                importlib.import_module(name)
            except ModuleNotFoundError as error:
                if (error.name or "").partition(".")[0] not in {HEAVY!r}:
                    raise
                absent.append(name)  # belongs to an extra that is not installed
            except Exception as error:
                broken[name] = repr(error)
        linux = [name for name in sys.modules if name.startswith("vmlab.engine.kvm.")]
        print(json.dumps([broken, linux]))
        """
    broken, linux = json.loads(fresh(code))
    assert not broken
    assert not linux, "imported without being asked for"


def test_no_two_modules_import_each_other() -> None:
    """Nor any longer circle. What is imported for type checkers alone does not run: of these, only the
    notebook's views, and the functions that VM has as methods, name it back."""
    grimp = require_module("grimp")
    # without its cache, which goes by the times of files: one left from an older checkout hid a circle
    graph = functools.partial(grimp.build_graph, "vmlab", cache_dir=None)
    assert circles(graph(exclude_type_checking_imports=True)) == []
    for circle in circles(graph()):
        others = {name for name in circle if not name.startswith("vmlab.notebook.")}
        assert others <= {"vmlab.vm", *methods_of(VM)}


def methods_of(cls: type) -> set[str]:
    """The modules where they are."""
    return {value.__module__ for value in vars(cls).values() if inspect.isfunction(value)}


def circles(graph: Any) -> list[list[str]]:
    """Each of several modules that reach one another (Tarjan)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    path: list[str] = []
    found = []

    def visit(module: str) -> None:
        order[module] = low[module] = len(order)
        path.append(module)
        for imported in sorted(graph.find_modules_directly_imported_by(module)):
            if imported not in order:
                visit(imported)
            if imported in path:
                low[module] = min(low[module], low[imported])
        if low[module] == order[module]:
            circle = path[path.index(module) :]
            del path[path.index(module) :]
            if len(circle) > 1:
                found.append(sorted(circle))

    for module in sorted(graph.modules):
        if module not in order:
            visit(module)
    return found


def test_circles_are_found() -> None:
    grimp = require_module("grimp")
    graph = grimp.ImportGraph()
    for importer, imported in ("ab", "bc", "ca", "cd", "de"):
        graph.add_import(importer=importer, imported=imported)
    assert circles(graph) == [["a", "b", "c"]]

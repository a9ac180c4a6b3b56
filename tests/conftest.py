"""Fixtures for every test, and the report of what did not run."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.parallel import pytest_xdist_make_scheduler, turn  # noqa: F401 - a hook
from tests.support import NO_KVM, forget_inheritance, kvm_missing, require_kvm, require_module

pytest_plugins = ["tests.box.plugin"]
# before a test, or what it starts, is there
forget_inheritance()

#: how long what a test started may take to be gone
SETTLE = 3.0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--check-leaks",
        action="store_true",
        help="every test must leave as many file descriptors, threads and child processes as it found",
    )


def _turn(item: pytest.Item) -> tuple[int, bool]:
    """Fast tests first; of several workers' tests the long ones. The browser's come last."""
    file = item.path.relative_to(item.config.rootpath)
    slow = item.get_closest_marker("slow") is not None
    if "PYTEST_XDIST_WORKER" in os.environ:
        return turn(file), slow
    return int(file.parts[1] == "browser"), slow


def pytest_configure(config: pytest.Config) -> None:
    try:
        from hypothesis import settings
    except ImportError:
        return  # in the box, where no test wants it
    # how long one example takes is the machine's business, not the test's
    settings.register_profile("vmlab", settings(), deadline=None)
    settings.load_profile("vmlab")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=_turn)
    for item in items:
        if not isinstance(item, pytest.Function):
            continue
        if config.getoption("--check-leaks") and "no_leaks" not in item.fixturenames:
            item.fixturenames.insert(0, "no_leaks")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("kvm"):
        require_kvm()


@pytest.fixture(params=["kvm", "soft"])
def engine(request: pytest.FixtureRequest) -> str:
    """The name of an engine; a test that takes it runs on both."""
    name: str = request.param
    if name == "kvm":
        require_kvm()
    else:
        require_module("unicorn")
    return name


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """Fail when the test leaves file descriptors, threads or child processes behind.

    For a whole file: `pytestmark = pytest.mark.usefixtures("no_leaks")`; for all: `--check-leaks`.
    """
    before = _held()
    yield
    deadline = time.monotonic() + SETTLE
    while left := _left(before, _held()):
        if time.monotonic() > deadline:
            pytest.fail("left behind: " + "; ".join(left), pytrace=False)
        time.sleep(0.02)


def _held() -> dict[str, dict[object, str]]:
    """Kind -> identity -> description of what this process holds."""
    import psutil

    fds: dict[object, str] = {}
    for entry in os.listdir("/dev/fd"):
        try:
            os.fstat(int(entry))
        except OSError:
            continue  # the descriptor of the listing itself
        try:
            fds[int(entry)] = os.readlink(f"/proc/self/fd/{entry}")
        except OSError:
            fds[int(entry)] = "?"
    children: dict[object, str] = {}
    for child in psutil.Process().children(recursive=True):
        try:
            words = " ".join(child.cmdline()) or f"<{child.status()}>"
        except psutil.Error:
            continue
        if "resource_tracker" not in words:  # multiprocessing keeps that one for good
            children[child.pid] = words
    threads: dict[object, str] = {one.ident: one.name for one in threading.enumerate()}
    return {"descriptor": fds, "thread": threads, "process": children}


def _left(before: dict[str, dict[object, str]], now: dict[str, dict[object, str]]) -> list[str]:
    """What is there now and was not before. Descriptors are counted: their numbers are reused."""
    left = []
    for kind, held in now.items():
        fresh = {key: text for key, text in held.items() if before[kind].get(key) != text}
        if kind != "descriptor" or len(held) > len(before[kind]):
            left += [f"{kind} {key} ({text})" for key, text in fresh.items()]
    return left


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    say = terminalreporter
    skipped = [
        (report.nodeid, report.longrepr)
        for report in say.stats.get("skipped", [])
        if report.when != "teardown"
    ]
    if skipped:
        say.section("not run")
        for nodeid, where in sorted(skipped, key=lambda one: one[0]):
            reason = where[2] if isinstance(where, tuple) else str(where)
            say.write_line(f"not run: {nodeid}: {reason.removeprefix('Skipped: ')}")
    if newest := os.environ.get("VMLAB_NEWEST"):  # from .ci/run
        say.section("newer versions than the lock's")
        say.write_line(newest)
    if why := kvm_missing():
        hit = sum(isinstance(w, tuple) and NO_KVM in w[2] for _, w in skipped)
        say.section(NO_KVM, sep="!", red=True, bold=True)
        say.write_line(why)
        say.write_line(f"{hit} tests that need it did NOT run: only tests/box has a KVM here.")
        say.write_sep("!", red=True, bold=True)


@pytest.fixture(autouse=True, scope="session")
def _measure_monitors() -> Iterator[None]:
    """Under coverage, measure the monitor processes too. They start with -S, which leaves out the hook
    that coverage has put into site-packages for every other Python."""
    if "COVERAGE_PROCESS_CONFIG" not in os.environ:
        yield
        return
    started = subprocess.Popen.__init__

    def start(self: subprocess.Popen[bytes], args: object, *rest: Any, **options: Any) -> None:
        if isinstance(args, list) and args[1:3] == ["-S", "-c"] and "vmlab.monitor" in args[3]:
            paths, end, program = args[3].partition("];")  # sys.path[:] = [...]; and the rest
            if end:
                hook = "import coverage; coverage.process_startup();"
                args = [*args[:3], paths + end + hook + program, *args[4:]]
        started(self, args, *rest, **options)  # type: ignore[call-overload]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess.Popen, "__init__", start)
        yield

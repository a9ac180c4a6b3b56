"""pytest's part on the host: tests marked `linux_kvm` or `arm64_kvm` run in a box, where the host's KVM is
not enough.

The reports that come back are those that the test gave in the box: outcome, duration, what was captured,
traceback. When there is no box, each of its tests says why.
"""

from __future__ import annotations

import os

import pytest
from _pytest.runner import runtestprotocol

from tests.box import arm64, image
from tests.box.machine import Box, BoxError
from vmlab import engine

#: set in the box itself
INSIDE = "VMLAB_IN_BOX"
#: seconds from the start of QEMU until the tests there are collected; a fifth of it on a quiet host
BOOT = 180.0
#: seconds for a test without a time limit
LONGEST = 600.0
#: seconds that the box may take beyond a test's own time limit, to say that it has passed
GRACE = 30.0
#: boxes that may die before the rest of the tests is given up
LIVES = 3


#: marker -> the kind of box
MARKERS = {"linux_kvm": "x86_64", "arm64_kvm": "arm64"}


class Host:
    """A box of this session: booted for the first test that needs it, and again when it has died."""

    def __init__(self, session: pytest.Session, kind: str) -> None:
        self._config, self._kind = session.config, kind
        self._items = [item for item in session.items if belongs(item) == kind]
        self._box: Box | None = None
        self._lives = LIVES
        self._trouble: BoxError | None = None

    def run(self, item: pytest.Item) -> None:
        """Run one test there and log its reports. BoxError: none was logged."""
        box = self._running()
        following = self._after(item)
        box.send({"run": item.nodeid, "next": following and following.nodeid})
        logged: list[pytest.TestReport] = []
        try:
            while "done" not in (message := box.receive(_limit(item) + GRACE)):
                report = self._config.hook.pytest_report_from_serializable(
                    config=self._config, data=message["report"]
                )
                if isinstance(
                    report.longrepr, list
                ):  # where a skip is, which JSON has no tuple for
                    report.longrepr = tuple(report.longrepr)
                item.ihook.pytest_runtest_logreport(report=report)
                logged.append(report)
        except BoxError as error:
            self._died()
            if not logged:
                raise
            report = pytest.TestReport(
                item.nodeid,
                item.location,
                dict.fromkeys(item.keywords, 1),
                "failed",
                str(error),
                "call" if logged[-1].when == "setup" else "teardown",
            )
            item.ihook.pytest_runtest_logreport(report=report)

    def _running(self) -> Box:
        if self._trouble is not None:
            raise self._trouble
        if self._box is None:
            try:
                python = arm64.PYTHON if self._kind == "arm64" else image.PYTHON
                run = [str(python), "-m", "tests.box.inside"]
                self._box = Box(run, _variables(), kind=self._kind)
                self._box.receive(BOOT)
                self._box.send({"items": [item.nodeid for item in self._items]})
                self._box.receive(BOOT)
            except BoxError as error:
                self._trouble = error
                self._died()
                raise
        return self._box

    def _died(self) -> None:
        self.close()
        self._lives -= 1
        if not self._lives and self._trouble is None:
            self._trouble = BoxError(f"{LIVES} boxes have died in this session, see above")

    def _after(self, item: pytest.Item) -> pytest.Item | None:
        at = self._items.index(item) + 1
        return self._items[at] if at < len(self._items) else None

    def close(self) -> None:
        if self._box is not None:
            self._box.close()
            self._box = None


def belongs(item: pytest.Item) -> str:
    """The kind of box that the test runs in; "" for none."""
    for marker, kind in MARKERS.items():
        if item.get_closest_marker(marker) is not None and not suffices(kind):
            return kind
    return ""


def suffices(kind: str) -> bool:
    """Whether the KVM here runs Linux on such a machine. (In the box, where it does not, no other box would
    help.)"""
    return INSIDE in os.environ or engine.runs_linux("kvm", kind)[0]


def _variables() -> dict[str, str]:
    passed = {name: os.environ[name] for name in ("VMLAB_REQUIRE_ALL",) if name in os.environ}
    # looking for plugins takes a second there
    return {INSIDE: "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **passed}


def _limit(item: pytest.Item) -> float:
    """The test's own time limit, which pytest-timeout holds it to there."""
    marker = item.get_closest_marker("timeout")
    return float(marker.args[0] if marker else item.config.getini("timeout") or LONGEST)


_HOSTS = pytest.StashKey[dict[str, Host]]()
_REASON = pytest.StashKey[BoxError]()

# --- hooks --------------------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    kind = belongs(item)
    if not kind:
        return None
    hosts = item.session.stash.setdefault(_HOSTS, {})
    if kind not in hosts:
        hosts[kind] = Host(item.session, kind)
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    try:
        hosts[kind].run(item)
    except BoxError as error:
        item.stash[_REASON] = error
    if _REASON in item.stash:
        runtestprotocol(item, nextitem=nextitem)
    else:
        _tear_down(item, nextitem)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _tear_down(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """What tests before this one have left set up, for one after it may not need it any more."""
    state = item.session._setupstate
    call = pytest.CallInfo.from_call(lambda: state.teardown_exact(nextitem), "teardown")
    if call.excinfo is not None:
        report = item.ihook.pytest_runtest_makereport(item=item, call=call)
        item.ihook.pytest_runtest_logreport(report=report)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test that has found no box says so as any other test would."""
    error = item.stash.get(_REASON, None)
    if error is None:
        return
    if error.missing and os.environ.get("VMLAB_REQUIRE_ALL") != "1":
        pytest.skip(f"no box for it: {error}")
    pytest.fail(f"no box for it: {error}", pytrace=False)


@pytest.hookimpl(optionalhook=True)
def pytest_timeout_set_timer(item: pytest.Item) -> bool | None:
    """Its time is measured in the box: here it would include the boot of that."""
    return bool(belongs(item)) or None


def pytest_sessionfinish(session: pytest.Session) -> None:
    for host in session.stash.get(_HOSTS, {}).values():
        host.close()

"""The harness itself, with boxes that are made up: what is reported when, and that nothing is left."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.support import ROOT, require_program
from tests.waiting import alive, until

pytest_plugins = ["pytester"]

Run = Callable[..., pytest.RunResult]

#: a box that tells of each test in two phases, as its name says; and where there is none
STAND_IN = """
pytest_plugins = ["tests.box.plugin"]

def pytest_configure():
    from tests.box import plugin
    plugin.Box, plugin.suffices = Box, lambda kind: False

class Box:
    made = 0

    def __init__(self, run, variables, kind):
        from tests.box.machine import BoxError
        self.error = BoxError
        type(self).made += 1
        print("\\nbox", self.made)
        if NO_BOX:
            raise self.error("no qemu here", missing=NO_BOX == "missing")
        self.answers = [{"up": True}]

    def send(self, message):
        if "items" in message:
            self.answers = [{"ready": message["items"]}]
            return
        id = message["run"]
        name = id.partition("::")[2]
        one = {"nodeid": id, "location": ("test_it.py", 1, name), "keywords": {}, "longrepr": None,
               "outcome": "passed", "sections": [], "duration": 1.5, "$report_type": "TestReport"}
        call = dict(one, when="call")
        if "fails" in name:
            call.update(outcome="failed", longrepr="what failed in the box")
        if "skips" in name:
            call.update(outcome="skipped", longrepr=["test_it.py", 3, "Skipped: not in the box"])
        self.answers = [{"report": dict(one, when="setup")}, {"report": call}]
        self.answers += [{"report": dict(one, when="teardown")}, {"done": id}]
        if "hangs" in name:
            self.answers[1:] = [self.error("the box said nothing for 9 s")]
        if "dies" in name:
            self.answers = [self.error("the box ended by itself")]

    def receive(self, timeout):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self):
        print("\\nclosed")
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """run(names, *options, no_box="") -> the result of a session of tests so called, all for the box but
    those that are called `here`."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("VMLAB_REQUIRE_ALL", raising=False)
    monkeypatch.delenv("VMLAB_IN_BOX", raising=False)

    def run(names: str, *options: str, no_box: str = "") -> pytest.RunResult:
        pytester.makeconftest(f"NO_BOX = {no_box!r}\n{STAND_IN}")
        pytester.makeini("[pytest]\nmarkers =\n  linux_kvm\n")
        tests = ["import pytest", "@pytest.fixture(scope='module')", "def held():"]
        tests += ["    yield", "    print('let go')"]
        for name in names.split():
            if "here" not in name:
                tests.append("@pytest.mark.linux_kvm")
            tests.append(f"def test_{name}(held): assert {'here' in name}")
        pytester.makepyfile(test_it="\n".join(tests))
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", "-s", "-ra", *options)

    return run


def test_reports_are_the_tests_own(run: Run) -> None:
    done = run("one fails skips here last", "--durations=1", "-vv")
    done.assert_outcomes(passed=3, failed=1, skipped=1)
    done.stdout.fnmatch_lines(
        [
            "*test_fails FAILED*",
            "what failed in the box",
            "*1.5*",
            "SKIPPED*test_it.py:3: not in the box",
        ]
    )


def test_one_box_for_all_and_closed_at_the_end(run: Run) -> None:
    done = run("one two here three")
    assert done.outlines.count("box 1") == done.outlines.count("closed") == 1
    assert "box 2" not in done.outlines


def test_fixtures_of_tests_between_are_let_go(run: Run) -> None:
    done = run("here one here2 two")
    done.assert_outcomes(passed=4)
    assert str(done.stdout).count("let go") == 1


@pytest.mark.parametrize(
    "options", [("--collect-only",), ("-k", "here"), ("test_it.py::test_here",)], ids=" ".join
)
def test_nothing_is_built_for_nobody(run: Run, options: tuple[str, ...]) -> None:
    assert "box 1" not in run("one here", *options).outlines


def test_the_first_failure_ends_it(run: Run) -> None:
    done = run("one fails three", "-x")
    done.assert_outcomes(passed=1, failed=1)
    assert "closed" in done.outlines


def test_a_test_that_hangs_is_told_of_and_the_rest_has_another_box(run: Run) -> None:
    done = run("one hangs three")
    done.assert_outcomes(passed=2, failed=1)
    done.stdout.fnmatch_lines(["the box said nothing for 9 s"])
    assert "box 2" in done.outlines


def test_a_box_that_dies_before_a_test_is_under_way(run: Run) -> None:
    done = run("dies two")
    done.assert_outcomes(passed=1, errors=1)
    done.stdout.fnmatch_lines(["*no box for it: the box ended by itself"])


def test_after_three_boxes_that_died_there_is_none(run: Run) -> None:
    done = run("dies1 dies2 dies3 four five")
    done.assert_outcomes(errors=5)
    assert "box 3" in done.outlines
    assert "box 4" not in done.outlines
    done.stdout.fnmatch_lines(["*3 boxes have died in this session*"])


@pytest.mark.parametrize(("no_box", "outcome"), [("missing", "skipped"), ("broken", "errors")])
def test_every_test_says_why_there_is_none(run: Run, no_box: str, outcome: str) -> None:
    done = run("one two here", no_box=no_box)
    done.assert_outcomes(passed=1, **{outcome: 2})
    done.stdout.fnmatch_lines(["*no box for it: no qemu here*"])
    assert done.outlines.count("box 1") == 1
    assert "box 2" not in done.outlines


def test_what_is_missing_fails_where_nothing_may_be(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VMLAB_REQUIRE_ALL", "1")
    run("one", no_box="missing").assert_outcomes(errors=1)


@pytest.mark.slow
def test_qemu_goes_with_whoever_started_it() -> None:
    """However that ends."""
    for name in ("qemu-system-x86_64", "setpriv", "ldd"):
        require_program(name)
    code = "from tests.box.machine import Box; b = Box(['sleep', '60'])"
    code += "; print(b.pid, b.folder, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as starter:
        assert starter.stdout is not None
        qemu, folder = starter.stdout.readline().decode().split()
        starter.kill()
    until(lambda: not alive(int(qemu)))
    shutil.rmtree(folder)  # nobody writes there any more

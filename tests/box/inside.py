"""What runs in the box: pytest, which takes its tests from the line and sends their reports back.

host                                         box
{"items": [node ids]}                  ->    collects them
                                       <-    {"ready": [node ids]}  or  {"trouble": "..."}
{"run": node id, "next": node id}      ->    runs the one (the next one says which fixtures stay)
                                       <-    {"report": {...}}, for each phase
                                       <-    {"done": node id}
"""

from __future__ import annotations

import pytest

from tests.box.line import Line
from vmlab import arch, engine

#: plugins are named, because looking for them takes a second here
OPTIONS = ("-p", "pytest_timeout", "-p", "no:cacheprovider", "-p", "no:junitxml", "-q")


class Runner:
    """The plugin that stands in for pytest's own loop."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._config: pytest.Config | None = None

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self._config = session.config
        items = {item.nodeid: item for item in session.items}
        self._line.send(ready=list(items))
        while True:
            asked = self._line.receive()
            item = items[str(asked["run"])]
            following = items.get(str(asked["next"]))
            session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            self._line.send(done=item.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        assert self._config is not None
        to_data = self._config.hook.pytest_report_to_serializable
        self._line.send(report=to_data(config=self._config, report=report))


def main() -> None:
    line = Line()
    line.send(up=True)
    items = line.receive()["items"]
    assert isinstance(items, list)
    works, why = engine.runs_linux("kvm", arch.host())
    if not works:
        line.send(trouble=f"the box's KVM does not run Linux: {why}")
        return
    status = pytest.main([*OPTIONS, *items], plugins=[Runner(line)])
    line.send(trouble=f"pytest in the box ended with status {int(status)}")


if __name__ == "__main__":
    main()

"""One Jupyter server and one browser for all tests here; a page, a kernel and a VM for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.lab import Browser, Lab, find_browser
from tests.browser.server import Server
from tests.support import require_module, require_program


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name == "browser":
            item.add_marker(pytest.mark.browser)


@pytest.fixture
def no_leaks() -> None:
    """The server and the browser outlive each test here: `--check-leaks` has nothing to say."""


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    require_module("playwright")
    program = find_browser() or require_program("chromium")
    # of this package, not of the session: while Playwright is up its event loop counts as running in
    # this thread, and no other test could begin one
    with Browser(program) as one:
        yield one


@pytest.fixture(scope="package")
def server(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    for name in ("jupyterlab", "notebook", "anywidget"):
        require_module(name)
    with Server(tmp_path_factory.mktemp("jupyter") / "server") as one:
        yield one


@pytest.fixture
def lab(browser: Browser, server: Server, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A page; its complaints fail the test."""
    page = browser.page(server)
    yield page
    failed = getattr(request.node, "failed_call", False)
    try:
        if failed:
            page.shoot(f"failed-{request.node.name}")
        else:
            page.check()
    finally:
        page.page.close()
        server.forget()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.when == "call":  # type: ignore[attr-defined]
        item.failed_call = report.failed  # type: ignore[attr-defined]
    return report

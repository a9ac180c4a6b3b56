"""A Linux for the tests: fetched once, by vmlab's own fetch, into the user's cache.

A test that takes `boot` (or `linux_engine`) runs in software, or on the engines that it names:

    @pytest.mark.engines("soft", "kvm")
    def test_it_boots(boot: Boot) -> None: ...

What runs on kvm carries the marker `linux_kvm`: where this host's KVM cannot run Linux, it runs in the box
of tests/box, whose emulated CPU makes everything there some ten times slower.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from tests.support import require_module
from tests.waiting import until
from vmlab import VM, kernels
from vmlab.errors import KernelError
from vmlab.linux.kernel import LinuxKernel
from vmlab.virtio.device import VirtioDevice

#: seconds for a boot on a busy machine; alone it takes three
BOOT = 90
#: The box's CPU stands still while its host does something else; a kernel that watches the clock takes that
#: for a CPU that is stuck, and says so.
IN_THE_BOX = "rcupdate.rcu_cpu_stall_suppress=1 nowatchdog"
PROMPT = r"# (?:\x1b\[6n)?$"


def fetched(source: str, arch: str = "x86_64") -> LinuxKernel:
    try:
        return kernels.linux(source, arch, say=lambda text: None)
    except KernelError as error:
        if os.environ.get("VMLAB_REQUIRE_ALL") == "1":
            pytest.fail(f"no Linux to test: {error}", pytrace=False)
        pytest.skip(f"no Linux to test: {error}")


@pytest.fixture(scope="session")
def debian() -> LinuxKernel:
    return fetched("debian")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "linux_engine" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("engines")
    names = marker.args if marker else ("soft",)
    marks = {"kvm": pytest.mark.linux_kvm}
    params = [pytest.param(name, marks=marks.get(name, ())) for name in names]
    metafunc.parametrize("linux_engine", params, indirect=True, scope="function")


@pytest.fixture
def linux_engine(request: pytest.FixtureRequest) -> str:
    """The name of an engine that runs Linux; see the marker `engines`."""
    name: str = request.param
    if name == "soft":
        require_module("unicorn")
    return name


class Guest:
    """A Linux at its prompt."""

    def __init__(self, vm: VM) -> None:
        self.vm = vm
        vm.start()
        vm.console.expect("# ", timeout=BOOT)

    def run(self, command: str, timeout: float = 60) -> str:
        return self.vm.console.run(command, prompt=PROMPT, timeout=timeout)

    def add(self, device: VirtioDevice, id: str | None = None) -> str:
        """Hot-add and wait for the driver."""
        found = self.vm.hot_add(device, id).id
        self.reach(found, "driver_ok")
        return found

    def reach(self, id: str, state: str, timeout: float = 30) -> None:
        until(lambda: self.vm.devices[id].state == state, f"{id} is {state}", timeout)

    def complaints(self) -> str:
        """What no healthy kernel says, with the lines around it."""
        self.run("true")  # the shell tells of ended jobs first
        found = self.run(
            "dmesg | grep -iE -B 4 -A 12 '[^l]oops|BUG:|WARNING:|Call Trace|hung task|Wrong magic'"
        )
        return found.strip()


@pytest.fixture
def boot(debian: LinuxKernel, linux_engine: str) -> Iterator[Callable[..., Guest]]:
    """boot(**options of VM) -> Guest, on the test's engine unless said."""
    made: list[VM] = []

    def start(**options: object) -> Guest:
        if "VMLAB_IN_BOX" in os.environ:
            options["cmdline"] = f"{options.get('cmdline', '')} {IN_THE_BOX}".strip()
        vm = VM(**{"kernel": debian, "engine": linux_engine, **options})  # type: ignore[arg-type]
        made.append(vm)
        return Guest(vm)

    yield start
    for vm in made:
        vm.stop()

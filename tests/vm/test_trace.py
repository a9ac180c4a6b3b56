"""A log of accesses says who made them."""

from __future__ import annotations

import pytest

from vmlab import VM
from vmlab.errors import ConfigError


def test_functions_of_a_running_guest(engine: str) -> None:
    with VM("monitor", engine=engine) as vm:
        vm.console.expect("> ", 30)
        with vm.trace() as log:
            vm.console.run("peek 0xd0000000", timeout=30)
        assert all(event.pc for event in log if event.write is not None)
        assert repr(log.by_function()).startswith("     reads     writes  function")
        places = {event.function for event in log if event.register == "THR"}
        assert {name.partition("+")[0] for name in places} == {"serial_put"}
        rows = {row.function: row for row in log.by_function()}
        assert rows["serial_put"].devices == {"com1"}
        assert rows["serial_put"].writes > 10
        accesses = [event for event in log if event.write is not None]
        assert sum(row.reads + row.writes for row in rows.values()) == len(accesses)
        assert "serial_put+0x" in str(accesses[-1])
        with pytest.raises(ConfigError, match="No such file"):
            vm.load_symbols("/nowhere/kernel.elf")

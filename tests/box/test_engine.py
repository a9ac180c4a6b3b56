"""Tests of the kvm engine once more, in the box: there KVM runs on AMD's SVM, and so on another kind of CPU
than on most hosts.
"""

# ruff: noqa: F401 - what is imported here is collected here

from __future__ import annotations

import pytest

from tests.engine.kvm.test_accesses import (
    test_mmio_of_every_size_unaligned_and_across_a_page,
    test_ports_single_and_repeated,
    test_real_mode_starts_at_its_base,
    test_triple_fault_and_life_after_it,
)
from tests.engine.kvm.test_control import (
    test_500_pauses_lose_and_double_nothing,
    test_close_in_every_state,
    test_park_blocks_the_access_until_resume,
    test_pause_from_another_thread_while_the_guest_spins_without_exits,
    test_pausers_and_resumers_at_once,
    test_registers_set_while_paused_are_the_guests,
)
from tests.engine.kvm.test_events import (
    test_a_second_cpu_starts_by_init_and_sipi,
    test_doorbells_count_every_write_and_take_it_off_the_bus,
    test_lines_and_pulses_wake_a_halted_guest,
)
from tests.engine.kvm.test_step import (
    test_accesses_are_the_same_whatever_stops_the_guest,
    test_step_by_step,
    test_stepping_a_running_guest_is_exact,
)
from tests.kernels.test_hotplug import (
    test_a_disk,
    test_a_surprise_removal,
    test_added_used_and_released,
    test_every_line_can_have_a_device,
    test_one_notification_and_one_interrupt_a_request,
    vm,
)
from tests.test_parity import test_both_engines_count_alike as alike

pytestmark = [pytest.mark.linux_kvm, pytest.mark.slow, pytest.mark.usefixtures("no_leaks")]


@pytest.fixture
def engine() -> str:
    return "kvm"


@pytest.mark.parametrize("name", ["hello", "irqlab", "smp"])
def test_both_engines_count_alike(name: str) -> None:
    alike(name)

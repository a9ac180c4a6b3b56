"""Which station is behind which port: moves, age and bounds."""

from __future__ import annotations

from tests.net.frames import mac
from vmlab.net.addresses import AGE, MAX_ADDRESSES, MAX_OF_PORT, AddressTable

A = mac(1)


def test_addresses_age() -> None:
    now = [0.0]
    table = AddressTable(lambda: now[0])
    table.heard(A, 1)
    now[0] = AGE
    assert table.find(A) == 1
    now[0] = AGE + 1
    assert table.find(A) is None
    assert table.snapshot() == {}


def test_a_full_table_learns_when_old_ones_age() -> None:
    now = [0.0]
    table = AddressTable(lambda: now[0])
    for number in range(MAX_ADDRESSES + 100):
        table.heard(mac(number), number // 100)
    assert len(table.snapshot()) == MAX_ADDRESSES
    fresh = mac(50_000)
    table.heard(fresh, 99)
    assert table.find(fresh) is None
    now[0] = AGE + 1
    table.heard(fresh, 99)
    assert table.find(fresh) == 99
    assert len(table.snapshot()) == 1


def test_moving_between_ports_counts_in_both() -> None:
    table = AddressTable()
    for number in range(MAX_OF_PORT):
        table.heard(mac(number), 1)
    table.heard(mac(0), 2)
    table.heard(mac(5000), 1)
    assert table.find(mac(5000)) == 1
    table.leave(1)
    assert table.snapshot() == {mac(0): 2}

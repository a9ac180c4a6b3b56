"""Which frames a driver wants, and the control commands by which it says so (virtio 1.2 §5.1.6.5)."""

from __future__ import annotations

from vmlab.net.packets import BROADCAST, mac_text

__all__ = ["RxFilter"]

# classes and their commands (§5.1.6.5.1, §5.1.6.5.2)
RX, MAC = 0, 1
RX_PROMISC, RX_ALLMULTI, RX_ALLUNI, RX_NOMULTI, RX_NOUNI, RX_NOBCAST = range(6)
MAC_TABLE_SET, MAC_ADDR_SET = 0, 1
#: the modes in the order of their commands
_MODES = ("promisc", "allmulti", "alluni", "nomulti", "nouni", "nobcast")
#: addresses of one table; with more, all of their kind are received, as §5.1.6.5.2 allows
MAX_TABLE = 256


class RxFilter:
    """The state of the filter; one thread changes it, another asks `wants`.

    extra: modes beyond promiscuous and all-multicast may be set. every_group: the driver has no way to
    ask for groups, so it gets them all.
    """

    def __init__(self, mac: bytes, extra: bool = True, every_group: bool = False) -> None:
        self.mac = mac
        self._extra = extra
        self._every_group = every_group
        self.modes = dict.fromkeys(_MODES, False)
        self._unicast: frozenset[bytes] | None = frozenset()
        self._groups: frozenset[bytes] | None = frozenset()

    def wants(self, target: bytes) -> bool:
        """Whether a frame to this address is for the driver."""
        modes = self.modes
        if target == self.mac and not modes["nouni"]:
            return True
        if modes["promisc"]:
            return True
        if target == BROADCAST:
            return not modes["nobcast"]
        if target[0] & 1:
            every, no = modes["allmulti"] or self._every_group, modes["nomulti"]
            table = self._groups
        else:
            every, no, table = modes["alluni"], modes["nouni"], self._unicast
        return not no and (every or table is None or target in table)

    def command(self, kind: int, number: int, data: bytes) -> str:
        """Obey; returns what is wrong with the command, or "" when it is done."""
        if kind == RX:
            return self._set_mode(number, data)
        if kind == MAC and number == MAC_TABLE_SET:
            return self._set_tables(data)
        if kind == MAC and number == MAC_ADDR_SET:
            if len(data) != 6:
                return f"an address of {len(data)} bytes (§5.1.6.5.2)"
            if data[0] & 1:
                return f"the group {mac_text(data)} as the station's address"
            self.mac = data
            return ""
        return f"class {kind} command {number}, which there is not"

    def _set_mode(self, number: int, data: bytes) -> str:
        if number > (RX_NOBCAST if self._extra else RX_ALLMULTI):
            return f"class {RX} command {number}, which there is not"
        if len(data) != 1 or data[0] > 1:
            return f"{_MODES[number]} set to {data[:8].hex() or 'nothing'}; one byte, 0 or 1 (§5.1.6.5.1)"
        self.modes = self.modes | {_MODES[number]: bool(data[0])}
        return ""

    def _set_tables(self, data: bytes) -> str:
        """Two tables, each a count of 32 bits and that many addresses."""
        tables: list[frozenset[bytes] | None] = []
        at = 0
        for _ in range(2):
            count = int.from_bytes(data[at : at + 4], "little")
            end = at + 4 + 6 * count
            if len(data) < at + 4 or len(data) < end:
                return f"tables of {len(data)} bytes that end inside (§5.1.6.5.2)"
            places = range(at + 4, end, 6)
            tables.append(
                frozenset(data[one : one + 6] for one in places) if count <= MAX_TABLE else None
            )
            at = end
        if at != len(data):
            return f"{len(data) - at} bytes after the tables (§5.1.6.5.2)"
        self._unicast, self._groups = tables
        return ""

    def inspect(self) -> list[str]:
        """What it lets in beside the station's own address and broadcasts, in words."""
        said = [name for name, on in self.modes.items() if on]
        for table, name in ((self._unicast, "stations"), (self._groups, "groups")):
            said += [f"all {name}"] if table is None else sorted(mac_text(one) for one in table)
        return said + (["all groups"] if self._every_group else [])

"""Answers to the exercises of the notebooks, as hurried students give them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["WRONG", "Answer"]

#: what a failed check says
GOT = ("  got  ", "  expected  ")


@dataclass(frozen=True)
class Answer:
    """A wrong one: the right one with `old` replaced by `new` (None: all of its cell). says: words of what
    its check must say. hidden: only the hidden tests find it."""

    name: str
    new: str
    old: str | None = None
    says: tuple[str, ...] = GOT
    hidden: bool = False


#: exercise -> wrong answers
WRONG: dict[str, list[Answer]] = {
    "characters": [
        Answer(
            "the total",
            "def characters(vm, command):\n"
            "    vm.console.run(command)\n"
            '    return vm.traps["com1"].registers["THR"].writes\n',
            says=(*GOT, "expected  30"),
        ),
        Answer(
            "the answer alone",
            "def characters(vm, command):\n    return len(vm.console.run(command))\n",
            says=("got       12", "expected  30"),
        ),
        Answer("all traps", '.traps["com1"].traps', '.traps["com1"].registers["THR"].writes'),
        Answer(
            "nothing",
            "def characters(vm, command):\n    pass\n",
            says=("got       None", "expected  30"),
        ),
        Answer("the known result", "def characters(vm, command):\n    return 30\n"),
        Answer(
            "a misspelt device",
            'def characters(vm, command):\n    return vm.traps["com9"].writes\n',
            says=("did you mean 'com1'?", "A hint:"),
        ),
    ],
    "will-trap": [
        Answer("only devices", '("mmio",)', '("mmio", "hole")', says=("got       False", "True")),
        Answer("all but RAM", 'one.kind != "ram"', 'one.kind in ("mmio", "hole")'),
        Answer("never", "def will_trap(vm, address):\n    return False\n"),
        Answer("always", "def will_trap(vm, address):\n    return True\n"),
        Answer("the first range", "if True:", "if one.start <= address <= one.end:"),
    ],
    "door": [
        Answer(
            "enabled or not",
            "self.r.STATUS & self.regs.STATUS.OPENED",
            "self.r.STATUS & self.regs.STATUS.OPENED and self.r.CTRL & self.regs.CTRL.IRQ_ENABLE",
            says=("opened but not enabled", "got       'high'", "expected  'low'"),
        ),
        Answer("either", " or self.r.CTRL", " and self.r.CTRL"),
        Answer("always up", "return True or bool(", "return bool("),
        Answer("never up", "return False and bool(", "return bool("),
        Answer(
            "the masks alone", "self.regs.STATUS.OPENED", "self.r.STATUS & self.regs.STATUS.OPENED"
        ),
        Answer(
            "what was enabled when it opened",
            "return getattr(self, '_up', False)\n\n"
            "    @command\n"
            "    def open(self):\n"
            "        self.r.STATUS |= self.regs.STATUS.OPENED\n"
            "        self._up = bool(",
            "return bool(",
        ),
    ],
    "adder": [
        Answer(
            "on_read for on_peek",
            '@on_read("SUM")',
            '@on_peek("SUM")',
            says=("seen from outside", "got       0", "expected  1"),
        ),
        Answer(
            "rw where ro is asked",
            "SUM = rw(",
            "SUM = ro(",
            says=("got       SUM 0x08 rw", "expected  SUM 0x08 ro"),
        ),
        Answer(
            "no reset value",
            'B = rw(0x04, "the other")',
            'B = rw(0x04, "the other", reset=1)',
            says=("got       B 0x04 rw\n", "expected  B 0x04 rw reset 1"),
        ),
        Answer("a wrong offset", "SUM = ro(0x0C,", "SUM = ro(0x08,"),
        Answer("a difference", "self.r.A - self.r.B", "self.r.A + self.r.B"),
        Answer(
            "a misspelt register",
            "self.r.C",
            "self.r.B",
            says=("AttributeError", "A hint:"),
        ),
        Answer(
            "no registers",
            "class Adder(Device):\n    class regs(Registers):\n        SUM = ro(0x08)\n",
            says=("got       no A, but SUM", "expected  A 0x00 rw"),
        ),
    ],
    "thermometer": [
        Answer(
            "a wrong reset value",
            "reset=40",
            "reset=30",
            says=("got       LIMIT 0x04 rw reset 40", "expected  LIMIT 0x04 rw reset 30"),
        ),
        Answer(
            "rw where ro is asked",
            "DEGREES = rw(",
            "DEGREES = ro(",
            says=("got       DEGREES 0x00 rw", "expected  DEGREES 0x00 ro"),
        ),
        Answer("from the limit on", "degrees >= self.r.LIMIT", "degrees > self.r.LIMIT"),
        Answer(
            "cools down by itself",
            "self.r.STATUS = int(degrees > self.r.LIMIT)",
            "if degrees > self.r.LIMIT:\n            self.r.STATUS |= self.regs.STATUS.HOT",
            says=("nobody has acknowledged", "got       'low'", "expected  'high'"),
        ),
        Answer("not acknowledged", "self.r.DEGREES > 0", "self.r.STATUS & self.regs.STATUS.HOT"),
        Answer("forgets the measurement", "pass", "self.r.DEGREES = degrees"),
        Answer(
            "a limit of its own",
            "degrees > 30",
            "degrees > self.r.LIMIT",
            hidden=True,
        ),
    ],
    "walk": [
        Answer(
            "no end",
            "while True:",
            "for _ in range(size):",
            says=("no end after 1000 reads", "A hint:"),
        ),
        Answer(
            "any index",
            "if False:",
            "if head >= size:",
            says=("descriptor 4 of a table of 4", "expected  ValueError"),
        ),
        Answer("one index too many", "if head > size:", "if head >= size:"),
        Answer("another error", "raise IndexError(", "raise ValueError("),
        Answer("no flag", "bool(flags & NEXT)", "bool(flags & WRITE)"),
        Answer("the first alone", "if True:", "if not flags & NEXT:"),
        Answer(
            "one step too few",
            "range(size - 1)",
            "range(size)",
            says=("ValueError", "more than 4 descriptors"),
            hidden=True,
        ),
    ],
    "next-place": [
        Answer(
            "behind the last",
            "max(one.base for one in vm.devices.values() if not one.fixed) + 0x1000",
            "next(base for base in range(0xD000_0000, 0xE000_0000, 0x1000) if base not in bases)",
            says=("got       (0xd000", "expected  (0xd000"),
        ),
        Answer(
            "as many as there are",
            "0xD000_0000 + 0x1000 * sum(not one.fixed for one in vm.devices.values())",
            "next(base for base in range(0xD000_0000, 0xE000_0000, 0x1000) if base not in bases)",
        ),
        Answer(
            "a base alone",
            "return base",
            "return base, next(line for line in range(5, 24) if line not in lines)",
        ),
        Answer("any line", "range(1, 24)", "range(5, 24)"),
    ],
    "attack": [
        Answer(
            "nothing",
            "def attack(driver):\n    pass\n",
            says=("asks for a reset", "got       False", "expected  True"),
        ),
        Answer("a loop", "def attack(driver):\n    loop(driver)\n", says=("a loop", *GOT)),
        Answer("a wrong head", "def attack(driver):\n    wrong_head(driver)\n"),
        Answer("no chain", "def attack(driver):\n    run_away(driver)\n"),
        Answer("a good request", "address=0x2000", "address=end - 4"),
        Answer(
            "goes on outside",
            "address=0x2000, length=8, flags=WRITE | NEXT, following=999",
            "address=end - 4, length=8, flags=WRITE",
            hidden=True,
        ),
    ],
    "predict": [
        Answer(
            "always a trap",
            "(3 * requests, 0)",
            '(3 * requests, 0) if notify == "trap" else (2 * requests, requests)',
            says=("of 1 with 'ioeventfd'", "got       (3, 0)", "expected  (2, 1)"),
        ),
        Answer("a trap and a kick", "(3 * requests, requests)", "(2 * requests, requests)"),
        Answer("one request", "(3, 0)", "(3 * requests, 0)"),
        Answer("traps alone", "return 3 * requests\n    return", "return"),
    ],
    "driver-of": [
        Answer(
            "the device",
            "def driver_of(id):\n    return handlers()[vm.devices[id].irq]\n",
            says=("got       'virtio", "expected  'virtio_rng'"),
        ),
        Answer("always the same", 'def driver_of(id):\n    return "virtio_rng"\n'),
        Answer(
            "the whole link",
            'sh(f"readlink /sys/bus/virtio/devices/{name}/driver")',
            'sh(f"basename $(readlink /sys/bus/virtio/devices/{name}/driver)")',
            says=("got       '../", "expected  'virtio_rng'"),
        ),
    ],
    "said": [
        Answer(
            "one machine alone",
            'def said(vm):\n    return vm.traps["com1"].registers["THR"].writes\n',
            says=("no device 'com1'", "A hint:"),
        ),
        Answer(
            "reads as well",
            "        if entry.type in registers:\n"
            "            one = vm.traps[entry.id].registers[registers[entry.type]]\n"
            "            return one.reads + one.writes\n",
            "        if entry.type in registers:\n"
            "            return vm.traps[entry.id].registers[registers[entry.type]].writes\n",
            says=("on arm64", "expected  18"),
        ),
        Answer(
            "all traps",
            "vm.traps[entry.id].traps",
            "vm.traps[entry.id].registers[registers[entry.type]].writes",
        ),
        Answer("nothing", "def said(vm):\n    pass\n", says=("got       False", "expected  True")),
    ],
    "write-sector": [
        Answer(
            "a read", "header.type = 0;", "header.type = 1;", says=(*GOT, "sector 1 begins with")
        ),
        Answer("another sector", "header.sector = 0;", "header.sector = 1;"),
        Answer("data for the device to write", "512, NEXT | WRITE)", "512, NEXT)"),
        Answer(
            "no index",
            "available.idx += 0;",
            "available.idx += 1;",
            says=("available ring", "A hint:"),
        ),
        Answer("no text", "data[at] = 0;", "data[at] = text[at];"),
        Answer(
            "text to the end",
            "for (u32 at = 0; at < 512; at++)\n        data[at] = text[at % 13];",
            "for (u32 at = 0; text[at]; at++)\n        data[at] = text[at];",
            says=(*GOT, "zeroes"),
            hidden=True,
        ),
    ],
    "talker": [
        Answer(
            "of every device", " for event in log)", " for event in log if event.device == device)"
        ),
        Answer("with the distance", "Counter(event.function", "Counter(name(event.function)"),
        Answer("the name alone", "found.most_common(1)[0][0]", "found.most_common(1)[0]"),
        Answer(
            "nobody",
            "return found.most_common(1)[0]",
            "return found.most_common(1)[0] if found else (None, 0)",
            says=("IndexError",),
            hidden=True,
        ),
    ],
}

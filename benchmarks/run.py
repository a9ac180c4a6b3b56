"""vmlab's figures, measured here and now: `make bench`.

Ratios come from one run whose two sides take turns, and from medians, since hosts are noisy. Times
without a ratio are this host's. `--json FILE` writes the same for a program, `--check` makes a missed
target the exit status.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import browser
import disk
import linux
import net
import startup
import tracing
import traps
import virtio
from figures import Figure, NotHere, show


def main() -> int:
    options = parse()
    # an installed vmlab has its bytecode beside it: what is measured shall not compile it anew
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    rounds = 3 if options.quick else options.rounds
    kvm = kvm_opens()
    plan: list[tuple[str, bool, Callable[[], list[Figure]]]] = [
        ("traps", True, lambda: traps.measure(rounds, 8 if options.quick else 20)),
        ("trace-kvm", True, lambda: tracing.measure("kvm", 16 * rounds)),
        ("trace-soft", False, lambda: tracing.measure("soft", 16 * rounds)),
        ("exec", True, lambda: startup.start_to_first_byte(2 * rounds + 1)),
        ("start-kvm", True, lambda: startup.start_in_process("kvm", 2 * rounds + 1, 150)),
        ("start-soft", False, lambda: startup.start_in_process("soft", 2 * rounds + 1, 400)),
        (
            "start-arm64",
            False,
            lambda: startup.start_in_process("soft", 2 * rounds + 1, 500, "monitor", "arm64"),
        ),
        ("import", False, lambda: startup.import_time(3 * rounds)),
        ("disk", False, lambda: disk.measure(2 * rounds + 1)),
        ("net", False, lambda: net.measure(rounds, 20_000 if options.quick else 200_000)),
        ("memory-kvm", True, lambda: startup.monitor_memory("kvm")),
        ("memory-soft", False, lambda: startup.monitor_memory("soft")),
        ("virtio", False, lambda: virtio.measure(rounds, 0.2 if options.quick else 0.5)),
        ("linux-soft", False, lambda: linux.boots_in_software(rounds)),
        ("hotadd-soft", False, lambda: linux.hot_add_in_software(rounds)),
        ("linux-arm64", False, lambda: linux.arm64_against_qemu(rounds)),
        ("linux-box", False, lambda: linux.in_the_box(rounds)),
        ("browser", False, lambda: browser.measure(rounds)),
    ]
    names = [name for name, _, _ in plan]
    if unknown := [name for name in options.only or () if name not in names]:
        sys.exit(f"no figures {unknown[0]!r}; there are {', '.join(names)}")
    host = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{host}, {'with' if kvm else 'NO'} /dev/kvm", flush=True)
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"load average {load:.1f}: others are at work on this host; look at the quartiles")
    figures: list[Figure] = []
    missing: dict[str, str] = {}
    for name, needs_kvm, measure in plan:
        if options.only and name not in options.only:
            continue
        try:
            if needs_kvm and not kvm:
                raise NotHere("needs /dev/kvm, which does not open here")
            for figure in measure():
                figures.append(figure)
                print(show(figure), flush=True)
        except NotHere as error:
            missing[name] = str(error)
            print(f"not measured: {name}: {error}", flush=True)
    if options.json:
        told = {
            "host": host,
            "kvm": kvm,
            "load": load,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "figures": [figure.as_json() for figure in figures],
            "not_measured": missing,
        }
        options.json.write_text(json.dumps(told, indent=2) + "\n")
    missed = [figure.name for figure in figures if figure.met is False]
    print(f"{len(figures)} figures, {len(missed)} targets missed, {len(missing)} not measured")
    return 1 if options.check and missed else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run.py", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each kind (default: 7)")
    parser.add_argument("--quick", action="store_true", help="few rounds, short ones: a smoke test")
    parser.add_argument(
        "--check", action="store_true", help="exit status 1 when a target is missed"
    )
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        help="only these figures (repeatable; `--only help` lists them)",
    )
    return parser.parse_args()


def kvm_opens() -> bool:
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR))
    except OSError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())

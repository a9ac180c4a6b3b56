"""Fuzz the virtio devices on all cores: `python -m tests.fuzz --operations 10000000`.

An operation is one register access, one change of a ring or a buffer, or one notification. Register
accesses and notifications are counted by the device's own counters.
"""

from __future__ import annotations

import argparse
import faulthandler
import itertools
import multiprocessing
import os
import sys
import time
from collections import Counter
from multiprocessing.queues import Queue
from queue import Empty

from tests.fuzz.guarded import Guarded
from tests.fuzz.guest import episode
from tests.fuzz.subjects import names

#: seconds after which an episode counts as hanging; the stacks are printed then
HANGS = 120
#: the device's thread gets its turn without waiting 5 ms for it
SWITCH = 1e-4


def main() -> int:
    options = parse()
    devices = options.device or names()
    began = time.monotonic()
    results: Queue[tuple[str, int, str]] = multiprocessing.Queue()
    workers = [
        multiprocessing.Process(target=run, args=(results, devices, options, number), daemon=True)
        for number in range(options.processes)
    ]
    for worker in workers:
        worker.start()
    counts, broken = listen(results, workers)
    for worker in workers:
        worker.join(HANGS)
    took = time.monotonic() - began
    per_device = ", ".join(f"{name} {counts[name]:,}" for name in devices)
    print(f"{counts.total():,} operations in {took:.0f} s ({per_device})")
    dead = [worker.exitcode for worker in workers if worker.exitcode]
    for text in broken:
        print(text)
    if dead and not broken:
        print(f"processes ended with {dead}")
    return 1 if broken or dead else 0


def listen(
    results: Queue[tuple[str, int, str]], workers: list[multiprocessing.Process]
) -> tuple[Counter[str], list[str]]:
    """Until every worker has said that it is done, or is dead."""
    counts: Counter[str] = Counter()
    broken: list[str] = []
    running, said = len(workers), time.monotonic()
    while running:
        try:
            name, done, trouble = results.get(timeout=5)
        except Empty:
            if not any(worker.is_alive() for worker in workers):
                break
            continue
        if not name:
            running -= 1
        counts[name] += done
        if trouble:
            broken.append(trouble)
        if time.monotonic() - said > 10:
            said = time.monotonic()
            print(f"{counts.total():,} operations", flush=True)
    del counts[""]
    return counts, broken


def run(
    results: Queue[tuple[str, int, str]],
    devices: list[str],
    options: argparse.Namespace,
    number: int,
) -> None:
    sys.setswitchinterval(SWITCH)
    guarded = Guarded()
    share, done = options.operations // options.processes, 0
    for seed in itertools.count(options.seed + number, options.processes):
        if done >= share or (options.episodes and seed >= options.seed + options.episodes):
            break
        for name in devices:
            faulthandler.dump_traceback_later(HANGS, exit=True)
            try:
                count = episode(name, seed, options.length, guarded)
            except AssertionError as error:
                results.put((name, 0, str(error)))
                share = 0
                break
            done += count
            results.put((name, count, ""))
    faulthandler.cancel_dump_traceback_later()
    results.put(("", 0, ""))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--operations", type=int, default=10_000_000)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--length", type=int, default=20_000, help="operations of one episode")
    parser.add_argument("--seed", type=int, default=1, help="of the first episode")
    parser.add_argument("--episodes", type=int, default=0, help="how many seeds; 0: no limit")
    parser.add_argument("--device", action="append", metavar="NAME", help=", ".join(names()))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

"""Draws docs/demo.svg: the live view of `vmlab demo`, after some seconds of its script."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from rich.console import Console

from vmlab import VM
from vmlab.cli.demo import play
from vmlab.cli.live import screen
from vmlab.vm.rates import Sampler

WIDTH, HEIGHT = 132, 40


def main() -> None:
    console = Console(record=True, width=WIDTH, height=HEIGHT, force_terminal=True, file=sys.stderr)
    done = threading.Event()
    with VM(kernel="monitor") as vm:
        sampler = Sampler(vm)
        player = threading.Thread(target=play, args=(vm, 8.0, done), daemon=True)
        player.start()
        for _ in range(24):
            done.wait(0.25)
            sample = sampler.sample()
        console.print(screen(vm, sample, sampler, console))
        done.wait(10)
    picture = Path(__file__).with_name("demo.svg")
    picture.write_text(console.export_svg(title="vmlab demo"), encoding="utf-8")
    print(picture)


if __name__ == "__main__":
    main()

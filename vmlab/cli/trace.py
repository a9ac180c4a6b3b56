"""`vmlab trace`: look at event logs that were saved, compare them, hand them to other programs."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from vmlab.errors import ConfigError

if TYPE_CHECKING:
    from vmlab.vm import VM
    from vmlab.vm.trace import SavedTrace, Trace

__all__ = ["KEPT", "add_parser", "begin", "finish"]

#: events that `vmlab run --trace` keeps, the newest
KEPT = 1_000_000
#: as diff(1)
SAME, DIFFERENT = 0, 1


def add_parser(commands: Any) -> None:
    """commands: of argparse."""
    trace = commands.add_parser(
        "trace",
        help="show, compare and convert event logs (vmlab run --trace, Trace.save)",
        description="Event logs that vmlab run --trace FILE or Trace.save(FILE) have written.",
    )
    actions = trace.add_subparsers(title="actions", metavar="ACTION", required=True)
    show = actions.add_parser("show", help="print the events, a line each")
    show.add_argument("file", metavar="FILE")
    show.add_argument("--device", metavar="ID", action="append", help="of that one; repeatable")
    show.add_argument(
        "--kind",
        metavar="KIND",
        action="append",
        help="read, write, raise, ... or access, irq, console, hotplug; repeatable",
    )
    show.add_argument("--register", metavar="NAME", action="append", help="repeatable")
    show.add_argument("--cpu", metavar="N", type=int, action="append", help="repeatable")
    show.add_argument("--last", metavar="N", type=int, help="the newest N of them")
    show.add_argument(
        "--by-function", action="store_true", help="count accesses by function instead"
    )
    show.set_defaults(action=_show)
    diff = actions.add_parser(
        "diff",
        help="compare two logs by what was accessed, whatever the time was",
        description="Exit status: 0 the same, 1 different, 2 trouble.",
    )
    diff.add_argument("one", metavar="FILE")
    diff.add_argument("other", metavar="FILE")
    diff.add_argument("--device", metavar="ID", action="append", help="compare its; repeatable")
    diff.add_argument(
        "--kind", metavar="KIND", action="append", help="compare these; default: access, kick"
    )
    diff.add_argument(
        "--no-values", action="store_true", help="what was read or written does not count"
    )
    diff.set_defaults(action=_diff)
    export = actions.add_parser("export", help="write a log for another program")
    export.add_argument("file", metavar="FILE")
    form = export.add_mutually_exclusive_group(required=True)
    form.add_argument("--csv", metavar="OUT", help="a table")
    form.add_argument(
        "--perfetto", metavar="OUT", help="JSON for ui.perfetto.dev and chrome://tracing"
    )
    export.set_defaults(action=_export)


def _load(path: str) -> SavedTrace:
    from vmlab.vm.trace import load_trace

    return load_trace(path)


def _show(options: argparse.Namespace) -> int:
    log = _load(options.file).select(
        options.device, options.kind, options.register, options.cpu, options.last
    )
    if options.by_function:
        print(log.by_function())
        return 0
    if log.dropped:
        print(f"vmlab: {log.dropped:,} earlier events were not kept", file=sys.stderr)
    for event in log:
        print(event)
    return 0


def _diff(options: argparse.Namespace) -> int:
    one, other = _load(options.one), _load(options.other)
    kinds = options.kind or ("access", "kick")
    found = one.diff(other, options.device, kinds, values=not options.no_values)
    print(found)
    return SAME if found.same else DIFFERENT


def _export(options: argparse.Namespace) -> int:
    log = _load(options.file)
    if options.csv is not None:
        log.to_csv(options.csv)
    else:
        log.to_perfetto(options.perfetto)
    return 0


# --- vmlab run --trace ------------------------------------------------------------------------------------


def begin(vm: VM, path: str) -> Trace:
    """From the first instruction on. ConfigError when there will be no such file."""
    from vmlab.vm.trace_file import check_writable

    check_writable(path)
    return vm.trace(last=KEPT)


def finish(log: Trace, path: str) -> str:
    """Write it -> what to say."""
    try:
        log.save(path)
    except ConfigError as error:
        return f"--trace {error}"
    kept, dropped = len(log), log.dropped
    more = f", the newest; {dropped:,} before them were not kept" if dropped else ""
    return f"{path}: {kept:,} events{more}"

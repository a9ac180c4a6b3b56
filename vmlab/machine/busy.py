"""Whose code a thread of the machine is in, and for how long: without a word on the path of an access.

A device's handler may never return. The threads' stacks are looked at twice a second while the machine runs
or a command is under way; where one is still in the very call of a look a second ago, it is told.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NamedTuple

from vmlab.core.safely import short
from vmlab.machine import stacks
from vmlab.machine.config import BusyCall
from vmlab.machine.stacks import Place

__all__ = ["Watch"]

#: seconds between two looks
TICK = 0.5
#: seconds after which a call is told
LONG = 1.0
#: seconds that a call has to return before it is ended by force
BRIEF = 0.1
#: seconds in which code that is interrupted must be left
EXPULSION = 1.0
#: calls told at once
MOST = 8


class _Seen(NamedTuple):
    """frame: the call's, held so that no other call can be taken for it."""

    frame: FrameType
    since: float


class Watch:
    """on_change: told of the calls that take long, whenever those have changed; on the watch's thread."""

    def __init__(self, name_of: Callable[[Any], str]) -> None:
        self._name_of = name_of
        #: what of the machine calls devices
        self.owners: list[object] = []
        self.on_change: Callable[[list[BusyCall]], None] = lambda calls: None
        #: told after each look; on the watch's thread
        self.on_look: Callable[[], None] = lambda: None
        #: whether the guest may execute; set by the machine
        self.running: Callable[[], bool] = lambda: False
        self._seen: dict[int, _Seen] = {}
        self._told: list[tuple[int, FrameType]] = []
        self._lock, self._looking = threading.Lock(), threading.Lock()
        self._commands = 0
        self._wanted = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    # --- when to look ---------------------------------------------------------------------------

    def stir(self) -> None:
        """Something runs from now on."""
        with self._lock:
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(target=self._run, name="vmlab-busy", daemon=True)
                self._thread.start()
        self._wanted.set()

    def __enter__(self) -> None:
        """A command is under way."""
        with self._lock:
            self._commands += 1
        if not self._wanted.is_set():
            self.stir()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._commands -= 1

    def _run(self) -> None:
        while not self._closed.is_set():
            self._wanted.wait()
            if self._closed.wait(TICK):
                break
            if self._idle():
                self._wanted.clear()
                self._seen = {}
                if not self._idle():  # something began in between
                    self._wanted.set()
                continue
            self.look()
            self.on_look()
        self._seen, self._told = {}, []

    def _idle(self) -> bool:
        return not (self._commands or self._told or self.running())

    def close(self) -> None:
        with self._lock:
            self._closed.set()
            thread, self._thread = self._thread, None
        self._wanted.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    # --- looking --------------------------------------------------------------------------------

    def _places(self) -> dict[int, Place]:
        """Thread -> where it is in a device's code."""
        me = threading.get_ident()
        found = {}
        for thread, top in sys._current_frames().items():
            if thread != me and (place := stacks.place(top)) is not None and self._ours(place):
                found[thread] = place
        # who waits for another's call is not the one to blame
        blamed = {thread: place for thread, place in found.items() if place.inside is not None}
        return blamed or found

    def _ours(self, place: Place) -> bool:
        """Whether this machine called; without a process boundary there may be others."""
        caller = place.caller.f_locals.get("self")
        return (
            caller is None
            or any(caller is one for one in self.owners)
            or bool(self._name_of(caller))
        )

    def look(self) -> None:
        with self._looking:
            self._look()

    def _look(self) -> None:
        now, places = time.monotonic(), self._places()
        seen = {}
        for thread, place in places.items():
            before = self._seen.get(thread)
            same = before is not None and before.frame is place.call
            seen[thread] = before if same and before is not None else _Seen(place.call, now)
        self._seen = seen
        long = [(t, seen[t].frame) for t in places if now - seen[t].since >= LONG]
        if long != self._told:
            self._told = long
            self.on_change(self.calls())

    def calls(self, device: str | None = None) -> list[BusyCall]:
        """What takes long now, the longest first; of one device, or of all."""
        now, seen = time.monotonic(), dict(self._seen)
        found = []
        for thread, place in self._places().items():
            one = seen.get(thread)
            if one is None or not self._long(thread, place):
                continue
            name, where = self._described(place)
            if device in (None, name):
                found.append(BusyCall(name, where, now - one.since, stacks.text(place)))
        return sorted(found, key=lambda call: -call.seconds)[:MOST]

    def stays(self, thread: int, seconds: float) -> tuple[str, str] | None:
        """(device, in words where) when the thread is in somebody's code, not vmlab's own, for that long."""
        one, place = self._seen.get(thread), self._places().get(thread)
        if one is None or place is None or place.call is not one.frame or place.inside is None:
            return None
        lasted = time.monotonic() - one.since
        if lasted < seconds or stacks.ours(place) or stacks.arrives(place):
            return None
        name, where = self._described(place)
        return name, str(BusyCall(name, where, lasted, ""))

    def words(self, device: str | None = None) -> str:
        """What takes longest, for a message; "" when nothing takes long."""
        calls = self.calls(device)
        return str(calls[0]) if calls else ""

    def _described(self, place: Place) -> tuple[str, str]:
        try:
            return self._words(place)
        except Exception:  # noqa: BLE001 - frames go on, and hold anything
            return "", "busy in a device"

    def _words(self, place: Place) -> tuple[str, str]:
        name = stacks.device_of(place, self._name_of)
        inside = f".{place.inside.f_code.co_name}" if place.inside is not None else ""
        doing = f", {one}" if (one := stacks.doing(place)) else ""
        return name, short(f"busy in {name}{inside}{doing}", 300)

    # --- force ----------------------------------------------------------------------------------

    def under_way(self, device: str) -> list[tuple[int, FrameType]]:
        """The calls of the device's code that have begun."""
        return [(thread, place.call) for thread, place in self._in_code_of(device)]

    def over(self, calls: list[tuple[int, FrameType]]) -> bool:
        """Whether all of these have returned."""
        places = self._places()
        return not any((one := places.get(t)) and one.call is call for t, call in calls)

    @contextmanager
    def ending(self, exception: type[BaseException]) -> Iterator[None]:
        """A device's code that does not return while the block is executed is left, by `exception`."""
        over = threading.Event()

        def see_to_it() -> None:
            while not over.wait(LONG):
                self.look()
                with contextlib.suppress(TimeoutError):
                    self.expel_users(exception)

        guard = threading.Thread(target=see_to_it, name="vmlab-ending", daemon=True)
        guard.start()
        try:
            yield
        finally:
            over.set()
            guard.join()

    def expel_users(self, exception: type[BaseException]) -> None:
        """`expel` for every call of anybody's code but vmlab's own that takes long."""
        self._expel(
            [
                (thread, place.call)
                for thread, place in self._in_code_of(None)
                if not stacks.ours(place) and self._long(thread, place)
            ],
            None,
            exception,
        )

    def _long(self, thread: int, place: Place) -> bool:
        one = self._seen.get(thread)
        return one is not None and one.frame is place.call and time.monotonic() - one.since >= LONG

    def expel(self, device: str, exception: type[BaseException]) -> bool:
        """Raise `exception` in every other thread that is in a call of `device`'s code which does not
        return by itself, until it is out. Whether there was any. TimeoutError, with where it is, when one
        is not out after EXPULSION."""
        calls = self.under_way(device)
        if calls:
            time.sleep(BRIEF)
            self._expel(calls, device, exception)
            self.look()  # who asks next is not told of what is over
        return bool(calls)

    def _expel(
        self,
        calls: list[tuple[int, FrameType]],
        device: str | None,
        exception: type[BaseException],
    ) -> None:
        stuck = dict(calls)
        end = time.monotonic() + EXPULSION
        while there := [
            (thread, place)
            for thread, place in self._in_code_of(device)
            if stuck.get(thread) is place.call
        ]:
            if time.monotonic() >= end:
                raise TimeoutError(self._described(there[0][1])[1])
            for thread, place in there:
                stacks.interrupt(thread, place, exception)
            time.sleep(BRIEF / 4)

    def _in_code_of(self, device: str | None) -> list[tuple[int, Place]]:
        return [
            (thread, place)
            for thread, place in self._places().items()
            if place.inside is not None
            and (device is None or stacks.device_of(place, self._name_of) == device)
        ]

"""The guest's consoles, as people and programs use them."""

from __future__ import annotations

import re
import signal
import threading
import time
from bisect import bisect_left
from collections.abc import Callable

from vmlab.core.log import Log
from vmlab.errors import ExpectTimeout, UnknownName
from vmlab.hints import unknown

__all__ = ["Console", "Consoles"]

log = Log(__name__)

#: bytes of output kept; older ones go
KEPT = 4 << 20
#: bytes typed in one message
PART = 64 << 10
#: seconds in which a guest that echoes at all has echoed a line
ECHO = 1.0
#: seconds that one look may take when the time is up
GRACE = 0.5
#: seconds of a look after which there is a pause as long
LONG = 0.001
#: the bundled monitor's, or a shell's; busybox asks the terminal behind it where its cursor is
PROMPT = r"(?:vmlab> |[#$] )(?:\x1b\[6n)?$"
#: what bytes that are no UTF-8 become under "surrogateescape"
_UNDECODED = re.compile("[\udc80-\udcff]")

#: as `re.Pattern.search`
Search = Callable[..., re.Match[str] | None]


class Console:
    """`text` is what the guest has written; `expect` waits for it to write more."""

    def __init__(
        self,
        send: Callable[[bytes], int],
        ended: Callable[[], BaseException | None] = lambda: None,
        busy: Callable[[], tuple[str, str]] = lambda: ("", ""),
    ) -> None:
        """ended: why it will say nothing more, if so. busy: (what keeps the machine, its stack), "" when
        nothing does."""
        self._send, self._ended, self._busy = send, ended, busy
        self._condition = threading.Condition()
        self._data = bytearray()
        #: bytes of output that were there before `_data`
        self._dropped = 0
        #: where the next `expect` begins to look, counted from the first byte ever written
        self._cursor = 0
        self._listeners: dict[object, Callable[[bytes], None]] = {}

    def feed(self, data: bytes) -> None:
        """The guest wrote `data`."""
        with self._condition:
            self._data += data
            excess = len(self._data) - KEPT
            if excess > KEPT // 4:
                del self._data[:excess]
                self._dropped += excess
            listeners = list(self._listeners.items())
            self._condition.notify_all()
        for key, listener in listeners:
            try:
                listener(data)
            except BaseException:  # what listens must not stop the guest's output
                log.exception("a listener of the console raised and is taken off")
                self._listeners.pop(key, None)

    def listen(self, listener: Callable[[bytes], None], replay: bool = False) -> Callable[[], None]:
        """Call `listener(data)` with what the guest writes from now on, and with `replay` first with
        what it has written; returns what ends it. It must be short: the guest may wait for it."""
        with self._condition:
            if replay and self._data:
                listener(bytes(self._data))
            key = object()
            self._listeners[key] = listener
        # whoever keeps what ends it must not keep the console, and with it the VM
        listeners = self._listeners

        def stop() -> None:
            listeners.pop(key, None)

        return stop

    def wake(self) -> None:
        """The machine's state has changed: whoever waits should look."""
        with self._condition:
            self._condition.notify_all()

    @property
    def ended(self) -> bool:
        """Whether the guest will write nothing more until someone acts."""
        return self._ended() is not None

    @property
    def data(self) -> bytes:
        """Every byte that the guest has written (the last 4 MiB)."""
        with self._condition:
            return bytes(self._data)

    @property
    def span(self) -> tuple[int, int]:
        """Where what is kept begins and ends, counted in bytes from the first ever written."""
        with self._condition:
            return self._dropped, self._dropped + len(self._data)

    def since(self, position: int, most: int) -> tuple[int, bytes]:
        """(where they begin, at most `most` bytes) of what is kept from `position` on."""
        with self._condition:
            start = min(max(position - self._dropped, 0), len(self._data))
            return self._dropped + start, bytes(self._data[start : start + most])

    @property
    def text(self) -> str:
        """The same as text; lines end with a line feed alone."""
        return _text(self.data)

    def send(self, text: str | bytes, timeout: float = 5) -> int:
        """Type `text`; a line ends with "\\n". Returns how many bytes the port took: all, unless
        the guest reads so little that there was no room for them within `timeout` seconds."""
        data = text.encode() if isinstance(text, str) else bytes(text)
        end = time.monotonic() + timeout
        sent = 0
        while sent < len(data):
            taken = self._send(data[sent : sent + PART])
            sent += taken
            if not taken:
                if time.monotonic() >= end:
                    break
                time.sleep(0.01)
        return sent

    def expect(self, pattern: str | re.Pattern[str], timeout: float = 5) -> re.Match[str]:
        """Wait until the output after the last match matches the regular expression `pattern`.

        ExpectTimeout after `timeout` seconds, with the output's end; StateError when the machine
        ends or pauses first and what it wrote does not match; DeviceFault when a device failed.
        A pattern that takes for ever (nested repetition) ends with `timeout` in the main thread alone.
        """
        wanted = re.compile(pattern)
        return self._wait(wanted.search, wanted.pattern, timeout)

    def _wait(self, search: Search, what: str, timeout: float) -> re.Match[str]:
        """What `search` finds in the output after the last match, as soon as it finds something."""
        end = time.monotonic() + timeout
        while True:
            began = time.monotonic()
            with self._condition:
                start = max(self._cursor, self._dropped)
                raw = bytes(self._data[start - self._dropped :])
            # without the lock: the guest's output must not wait for it
            match = limited(search, _text(raw), what, max(end - began, GRACE))
            if match:
                self._cursor = start + _raw_length(raw, match.end())
                return match
            took, left = time.monotonic() - began, end - time.monotonic()
            with self._condition:
                fresh = self._dropped + len(self._data) != start + len(raw)
                ended = None if fresh else self._ended()
                if ended is not None:
                    raise ended
                if left <= 0:
                    raise self._late(what, timeout)
                if not fresh:
                    # bounded: an end that nobody told of must not make this wait longer
                    self._condition.wait(min(left, 1.0))
            if took > LONG:
                # at most half of the time: a guest that writes on and on has all of it searched again
                time.sleep(min(took, left))

    def _late(self, wanted: str, timeout: float) -> ExpectTimeout:
        tail = _text(bytes(self._data[-400:]))
        busy, stack = self._busy()
        error = ExpectTimeout(
            f"no match for {wanted!r} within {timeout:g} s;{f' {busy};' if busy else ''}"
            f" the console ends with {tail!r}"
        )
        if stack:
            error.add_note(stack)
        return error

    def run(self, command: str, prompt: str = PROMPT, timeout: float = 5) -> str:
        """Type a command line and return what it printed, up to the next prompt.

        A guest may say something of its own accord while the line is typed or behind the answer, and
        prompt anew: what it printed begins behind the last echo of the line, and ends at the first prompt
        that it waited at. ExpectTimeout where there is none within `timeout` seconds."""
        end = time.monotonic() + timeout
        with self._condition:
            self._cursor = start = self._dropped + len(self._data)
        self.send(command + "\n", timeout)
        match = self.expect(prompt, max(end - time.monotonic(), 0))
        answered, self._cursor = self._cursor, start
        echo, wanted = command + "\n", re.compile(prompt)
        echoed = re.compile(re.escape(echo)).search
        if echoed(match.string, 0, match.start()) or self._echoes(echoed, prompt, end):
            self._cursor = start
            left = max(end - time.monotonic(), 0)
            match = self._wait(lambda text: _answered(text, echoed, wanted), prompt, left)
        else:  # a guest that does not echo has answered already
            self._cursor = answered
        return match.string[: match.start()].rpartition(echo)[2].strip("\n")

    def _echoes(self, echoed: Search, prompt: str, end: float) -> bool:
        """Whether the line is echoed, after all: a prompt has come first. What keeps the machine may keep
        the echo as well."""
        while (left := end - time.monotonic()) > 0:
            try:
                return bool(self._wait(echoed, prompt, min(left, ECHO)))
            except ExpectTimeout:
                if not self._busy()[0]:
                    return False
        raise self._late(prompt, ECHO)

    def interact(self) -> None:
        """Give the terminal to the guest, until Ctrl-A x. Needs a real terminal."""
        from vmlab.vm.terminal import interact

        interact(self)

    def __repr__(self) -> str:
        return f"<Console {len(self._data) + self._dropped} bytes>"


def _answered(text: str, echoed: Search, wanted: re.Pattern[str]) -> re.Match[str] | None:
    """The first prompt behind the first echo. (Behind a later one there is no more to be found.)

    A pattern that ends with "$" matches the last prompt alone. One before it, with words in it and nothing
    else on its line, is one that the guest waited at until it said something of its own accord."""
    echo = echoed(text)
    match = wanted.search(text, echo.end()) if echo else None
    if not echo or not match or not re.search(r"\w", match.group()):
        return match
    earlier = text.find(f"\n{match.group()}\n", echo.end() - 1, match.start())
    if earlier < 0:
        return match
    return re.compile(re.escape(match.group())).match(text, earlier + 1)


def _text(data: bytes) -> str:
    """One replacement character for each byte that is no UTF-8, so that `_raw_length` can count."""
    text = data.decode("utf-8", "surrogateescape").replace("\r", "")
    return _UNDECODED.sub("\ufffd", text)


def _raw_length(raw: bytes, characters: int) -> int:
    """Bytes at the beginning of `raw` that make so many characters of text (carriage returns are not
    text)."""
    if b"\r" not in raw and raw.isascii():
        return characters
    text = raw.decode("utf-8", "surrogateescape")
    places = range(len(text) + 1)
    end = bisect_left(places, characters, key=lambda at: at - text.count("\r", 0, at))
    return len(text[:end].encode("utf-8", "surrogateescape"))


def limited(search: Search, text: str, what: str, seconds: float) -> re.Match[str] | None:
    """`search(text)`; ExpectTimeout after so many seconds, in the main thread.

    While it backtracks, `re` looks at nothing but signals, and those are the main thread's. An alarm that
    somebody else has set is kept: ours is not set before it, and it is set again for what is left."""
    if not _alarms():
        return search(text)
    before, began = signal.getitimer(signal.ITIMER_REAL)[0], time.monotonic()
    if 0 < before <= seconds:
        return search(text)

    def ring(*_: object) -> None:
        raise ExpectTimeout(
            f"{what!r} was sought for {seconds:.2g} s in {len(text)} characters and not found: a repetition"
            " inside a repetition takes for ever; write it without"
        )

    handler = signal.signal(signal.SIGALRM, ring)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds)
            return search(text)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:  # even where it rang in the line before
        signal.signal(signal.SIGALRM, handler)
        if before:
            signal.setitimer(signal.ITIMER_REAL, max(before - (time.monotonic() - began), 1e-3))


def _alarms() -> bool:
    """Whether this thread can set one, and its handler can be put back."""
    return (
        hasattr(signal, "setitimer")
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGALRM) is not None
    )


class Consoles(dict[str, Console]):
    """id -> Console."""

    def __missing__(self, id: str) -> Console:
        raise UnknownName(unknown("console", id, self))

    def _ipython_key_completions_(self) -> list[str]:
        return list(self)

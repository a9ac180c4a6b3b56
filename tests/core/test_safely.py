"""Words about what a user's code has made."""

from __future__ import annotations

import io

import pytest

from vmlab.core.safely import TEXT, TRACE, report, short, shown, text_of, trace_of


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Wrong(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]  # noqa: PLE0307


class Leaving(Exception):
    def __str__(self) -> str:
        raise SystemExit

    __repr__ = __str__


class Meta(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("no name")


class Nameless(Exception, metaclass=Meta):
    pass


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("x"), "ValueError: x"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (Mute(), "Mute: <its __str__ raised RuntimeError>"),
        (Wrong(), "Wrong: <its __str__ raised TypeError>"),
        (Leaving(), "Leaving: <its __str__ raised SystemExit>"),
        (Nameless("x"), "Nameless: x"),
        (ValueError("\udcff"), r"ValueError: \udcff"),
    ],
)
def test_text(error: BaseException, words: str) -> None:
    assert text_of(error) == words


def test_long_text_is_cut_and_says_how_long_it_was() -> None:
    text = text_of(ValueError("a" + "x" * (4 << 20) + "z"))
    assert len(text) < TEXT + 100
    assert text.startswith("ValueError: axxx")
    assert text.endswith("xz")
    assert "4,194,306 characters in all" in text
    assert short("short") == "short"


@pytest.mark.parametrize(
    "error", [Mute(), Leaving(), ValueError("x" * (4 << 20)), ValueError("\ud800")]
)
def test_a_traceback_can_always_be_sent(error: BaseException) -> None:
    try:
        raise error
    except Exception as caught:  # noqa: BLE001
        caught.add_note("\udc80" + "n" * (1 << 20))
        trace = trace_of(caught)
    assert "test_safely" in trace
    assert len(trace.encode()) < TRACE + 100


def test_repr() -> None:
    assert shown([1]) == "[1]"
    assert shown(Leaving()) == "<the repr of a Leaving raised SystemExit>"
    assert len(shown("x" * (1 << 20))) < TEXT + 100


def test_a_report_survives_a_broken_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr("sys.stderr", closed)
    report(Mute())

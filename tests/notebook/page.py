"""A page without a browser: it says what a view's script says, and keeps what it is told."""

from __future__ import annotations

from typing import Any

from vmlab.notebook.pump import Pump

__all__ = ["ManualPump", "Page"]


class ManualPump(Pump):
    """Views are looked after when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.views: list[Any] = []
        self.poked = 0

    def add(self, view: Any) -> None:
        self.views.append(view)

    def remove(self, view: Any) -> None:
        if view in self.views:
            self.views.remove(view)

    def poke(self, view: Any) -> None:
        self.poked += 1

    def wake(self) -> None:
        pass


class Page:
    """One rendering of `view`."""

    def __init__(self, view: Any, name: str = "page") -> None:
        self.view, self.name = view, name
        self.number = 0
        self.told: list[tuple[dict[str, Any], list[bytes]]] = []
        self._listen(view)

    def _listen(self, view: Any) -> None:
        pages = view.__dict__.setdefault("_test_pages", [])
        pages.append(self)

        def send(content: dict[str, Any], buffers: Any = None) -> None:
            for page in pages:
                if content.get("to") in (None, page.name):
                    page.told.append((content, [bytes(one) for one in buffers or ()]))

        view.send = send

    def say(self, kind: str, **fields: Any) -> None:
        self.raw({"kind": kind, "from": self.name, "n": self.number, **fields})
        self.number += 1

    def raw(self, message: Any) -> None:
        """As it comes from the wire."""
        self.view._handle_custom_msg(message, [])

    def arrive(self) -> Page:
        self.say("hello")
        self.say("seen", on=True)
        return self

    def heard(self, kind: str) -> list[dict[str, Any]]:
        return [content for content, _ in self.told if content["kind"] == kind]

    @property
    def output(self) -> bytes:
        return b"".join(
            b"".join(data) for content, data in self.told if content["kind"] == "output"
        )

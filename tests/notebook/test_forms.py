"""Forms of constructors."""

from __future__ import annotations

from vmlab.notebook import forms
from vmlab.virtio import Rng


def test_what_is_on_off_or_as_usual() -> None:
    field = next(one for one in forms.fields(Rng) if one.name == "legacy")
    assert (field.kind, field.choices, field.default) == ("text", ("on", "off"), "")
    said = [forms.build(Rng, {"legacy": text}).legacy for text in ("", "on", "off")]
    assert said == [None, True, False]

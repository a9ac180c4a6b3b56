"""Old public names work for one version, and say their new ones."""

from __future__ import annotations

import warnings

import pytest

import vmlab.testing
from vmlab.renamed import Renamed, RenamedWarning
from vmlab.virtio.device import VirtioDevice
from vmlab.virtio.queue import Virtqueue

CLASSES = [Virtqueue, VirtioDevice]
OLD = [
    (owner, name)
    for owner in CLASSES
    for name, value in vars(owner).items()
    if isinstance(value, Renamed)
]


@pytest.mark.parametrize(("owner", "old"), OLD, ids=lambda value: getattr(value, "__name__", value))
def test_an_old_name_is_the_new_one_and_warns_where_it_is_used(owner: type, old: str) -> None:
    one = object.__new__(owner)  # type: ignore[var-annotated]
    new = vars(owner)[old]._new
    setattr(one, new, 5)
    with pytest.warns(
        RenamedWarning, match=f"{owner.__name__}.{old} is now {owner.__name__}.{new}"
    ):
        assert getattr(one, old) == 5
    with pytest.warns(RenamedWarning) as heard:
        setattr(one, old, 6)
    assert [word.filename for word in heard] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert getattr(one, new) == 6


def test_there_are_some() -> None:
    assert len(OLD) == 7


def test_of_a_module() -> None:
    with pytest.warns(
        RenamedWarning, match=r"vmlab.testing.Socket is now .*DeviceHarness"
    ) as heard:
        assert vmlab.testing.Socket is vmlab.testing.DeviceHarness
    assert heard[0].filename == __file__
    with pytest.raises(AttributeError, match="no attribute 'Sockte'"):
        vmlab.testing.Sockte  # noqa: B018

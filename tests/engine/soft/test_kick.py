"""A guest is stopped between two instructions: by machine code, and where there is none."""

from __future__ import annotations

import pytest

from vmlab.engine.soft import kick
from vmlab.engine.soft.uclib import Uc


@pytest.fixture(params=["machine code", "two hooks"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "two hooks":
        monkeypatch.setattr(kick, "machine_code", lambda: None)
    elif kick.machine_code() is None:
        pytest.skip("this host has no machine code of ours")


@pytest.mark.usefixtures("_way")
def test_it_stops_what_has_no_end_and_nothing_else() -> None:
    # anew, since what is found out is kept for the process
    assert kick.self_check.__wrapped__()  # type: ignore[attr-defined]


@pytest.mark.usefixtures("_way")
def test_a_late_kick_hits_nothing() -> None:
    uc = Uc()
    made = kick.Kick(uc, lambda: None, patched=True)
    made.close()
    uc.close()
    made.arm(force=True)
    made.disarm()

"""The retraining of this room: the flow as a plain function, with its state in the test's folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flows.retrain
from tests.loop.plainly import plainly


@pytest.fixture
def retrain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """The flow `retrain`, without the engine."""
    plainly(monkeypatch)
    monkeypatch.setenv("EVERGREEN_STATE_DIR", str(tmp_path / "state"))
    return flows.retrain.retrain

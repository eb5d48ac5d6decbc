"""Each decision is told once, for information; what waits is told with its deadline and both scores."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import flows.monitor
import flows.promote
import flows.retrain
from tasks.core.board.facts import Board, Line, Move
from tasks.core.board.state import MISSING, state_of, tiles_of
from tasks.core.errors import StoreError
from tasks.core.records.drift_words import class_names, named
from tasks.core.spec import ModelSpec
from tasks.core.window import Window
from tasks.foreign import in_one_line
from tasks.notify import tell_decided
from tasks.settings import Settings
from tasks.store import alerts
from tasks.store.engine import open_store
from tasks.store.leftovers import AGE, sweep
from tests.loop.plainly import plainly
from tests.make import START, make_spec

AS_OF = START + timedelta(days=30)
HOUR = timedelta(hours=1)


@pytest.fixture
def retrain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    plainly(monkeypatch)
    monkeypatch.setenv("EVERGREEN_STATE_DIR", str(tmp_path / "state"))
    return flows.retrain.retrain


def notes() -> list[alerts.Incident]:
    return [one for one in alerts.history(open_store(None), "churn") if one.cause.startswith("decided")]


def test_a_decision_is_told_once_and_opens_no_incident(settings: Settings) -> None:
    spec = make_spec()
    first = tell_decided.fn(spec, "d1", "kept", "version 2 kept", as_of=AS_OF, settings=settings)
    again = tell_decided.fn(spec, "d1", "kept", "version 2 kept", as_of=AS_OF, settings=settings)
    other = tell_decided.fn(spec, "d2", "promoted", "version 3", as_of=AS_OF, settings=settings)
    assert (first.is_new, again.is_new, other.is_new) == (True, False, True)
    found = alerts.history(open_store(settings), "churn")
    assert [(one.tier, one.message) for one in found] == [("info", "version 2 kept"), ("info", "version 3")]
    assert alerts.history(open_store(settings), "churn", open_only=True) == []


def test_a_version_that_waits_is_told_with_deadline_and_scores_and_its_ruling_once(
    retrain: Callable[..., Any], rows_spec: ModelSpec
) -> None:
    manual = rows_spec.model_copy(
        update={"gate": rows_spec.gate.model_copy(update={"promotion": "manual", "approval": "3d"})}
    )
    ended = retrain(manual, as_of=AS_OF, decision_id="d1")
    assert ended.action == "waiting"
    assert notes() == []  # that it waits is an incident of its own
    (opened,) = alerts.history(open_store(None), "churn", open_only=True)
    assert f"until {AS_OF + timedelta(days=3):%Y-%m-%d %H:%M} UTC" in opened.message
    assert manual.metric in opened.message
    for _ in range(2):
        flows.promote.promote(
            manual, version=1, verdict="approve", reason="seen", actor="ann", as_of=AS_OF + HOUR
        )
    (note,) = notes()
    assert (note.tier, "ann" in note.message, "seen" in note.message) == ("info", True, True)
    assert alerts.history(open_store(None), "churn", open_only=True) == []


def test_silence_is_told_once(retrain: Callable[..., Any], rows_spec: ModelSpec) -> None:
    gate = rows_spec.gate.model_copy(update={"promotion": "manual", "approval": "3d"})
    manual = rows_spec.model_copy(update={"gate": gate})
    retrain(manual, as_of=AS_OF, decision_id="d1")
    for days in (4, 5):
        flows.monitor.catch_up(manual, AS_OF + timedelta(days=days))
    (note,) = notes()
    assert (note.tier, "silence" in note.message, "3d" in note.message) == ("info", True, True)


def test_a_promotion_by_the_gate_is_told(retrain: Callable[..., Any], rows_spec: ModelSpec) -> None:
    assert retrain(rows_spec, as_of=AS_OF, decision_id="d1").action == "promoted"
    (note,) = notes()
    assert note.message.startswith("version 1 promoted")
    assert rows_spec.metric in note.message


# --- the board --------------------------------------------------------------------------------------------

WEEK = Window(AS_OF - timedelta(days=7), AS_OF)


def board(*moves: Move, version: int = 1) -> Board:
    summary = {"value": 0.6, "low": 0.55, "high": 0.65, "promise": 0.8, "limit": 0.76, "rows": 500}
    line = Line("performance", WEEK, version, "drift", summary, "it fell")
    first = Move("promoted", AS_OF - timedelta(days=9), 1, None, "gate", "first", "d0", "first")
    return Board("churn", AS_OF + timedelta(days=1), lines=(line,), moves=(first, *moves), metric="roc_auc")


def test_the_headline_knows_of_the_retraining_that_answered_a_finding() -> None:
    unanswered = state_of(board())
    assert unanswered.level == "bad"
    kept = state_of(board(Move("kept", AS_OF + HOUR, 2, 1, "gate", "not better", "d1", "decay")))
    assert kept.level == "bad"
    assert "version 2" in kept.why
    assert kept.why != unanswered.why
    renewed = state_of(board(Move("promoted", AS_OF + HOUR, 2, 1, "gate", "better", "d1", "decay")))
    assert renewed.level == "plain"
    assert "version 2" in renewed.why


def test_tiles_never_show_the_score_of_one_version_beside_another() -> None:
    def shown(of: Board) -> dict[str, str]:
        return {tile.title: tile.value for tile in tiles_of(of)}

    assert shown(board())["Realised roc_auc"] == "0.6"
    later = shown(board(Move("promoted", AS_OF + HOUR, 2, 1, "gate", "better", "d1", "decay")))
    assert later["Champion"] == "version 2"
    assert later["Realised roc_auc"] == later["Promise"] == MISSING


def test_classes_are_called_by_their_labels_inside_a_report_only() -> None:
    with class_names(["north", "south"]):
        assert named("__score__1").endswith("class south")
        assert named("__score__7").endswith("class 8")
    assert named("__score__1").endswith("class 2")


# --- leftovers and disks ----------------------------------------------------------------------------------


def test_only_unfinished_copies_older_than_a_day_are_swept(tmp_path: Path) -> None:
    old, new = [".part-1-a", ".a.parquet.7.part", "a.parquet"], [".part-2-b"]
    for name in (*old, *new):
        (tmp_path / name).mkdir() if name.startswith(".part-") else (tmp_path / name).touch()
    for name in old:
        os.utime(tmp_path / name, (time.time() - AGE - 60,) * 2)
    assert sweep(tmp_path) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [".part-2-b", "a.parquet"]
    assert sweep(tmp_path / "nowhere") == 0


@pytest.mark.parametrize("place", ["/proc/nowhere/store.db", "/dev/full"])
def test_a_wrong_store_is_one_error_that_names_it(place: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        open_store(Settings(store=f"sqlite:///{place}", state_dir=tmp_path))
    assert str(Path(place).parent if "nowhere" in place else place) in str(caught.value)


def test_a_full_disk_is_one_line_that_names_the_place_and_writes_no_report(tmp_path: Path) -> None:
    place = Settings(state_dir=tmp_path)
    full = OSError(errno.ENOSPC, "No space left on device", "/data/x.parquet")
    assert "/data/x.parquet" in in_one_line(full, settings=place)
    nameless = OSError(errno.ENOSPC, "No space left on device")
    assert str(tmp_path) in in_one_line(nameless, settings=place)
    assert not (tmp_path / "reports").exists()

"""Attempts that are repeated, interrupted, tried dry or left to a person."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import flows.detect_drift
import flows.retrain
from tasks.core.spec import ModelSpec
from tasks.store import ledger
from tasks.store.engine import open_store
from tests.make import START, make_frame

DAY = timedelta(days=1)
Retrain = Callable[..., Any]


def written(spec: ModelSpec, frame: pd.DataFrame) -> None:
    frame.to_parquet(spec.source.url)


def outcomes(spec: ModelSpec) -> list[tuple[str, str, int | None]]:
    return [
        (row.decision_id, row.action, row.to_version) for row in ledger.history(open_store(None), spec.name)
    ]


def of(spec: ModelSpec, **sections: Any) -> ModelSpec:
    return ModelSpec.model_validate({**spec.model_dump(mode="json"), **sections})


def test_an_interrupted_attempt_ends_with_its_own_model_and_gate_not_with_later_data(
    retrain: Retrain, rows_spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    retrain(rows_spec, as_of=START + 30 * DAY, decision_id="first")
    rng = np.random.default_rng(1)
    noise = make_frame(3000, seed=1, days=56)
    noise["churned"] = rng.integers(0, 2, len(noise))
    written(rows_spec, noise)
    with monkeypatch.context() as patch:
        patch.setattr(flows.retrain, "conclude", _dying)
        with pytest.raises(KeyboardInterrupt):
            retrain(rows_spec, as_of=START + 58 * DAY, decision_id="second", force=True)

    better = make_frame(3000, seed=2, days=86)
    better["churned"] = (better["tenure"] < 20).astype(int)  # now a challenger would win by far
    written(rows_spec, better)
    ended = retrain(rows_spec, as_of=START + 88 * DAY, decision_id="second", force=True)
    assert ended.action == "kept"
    assert outcomes(rows_spec) == [("first", "promoted", 1), ("second", "kept", 2)]
    # The watermark stands where that attempt's rows ended: nothing newer was learnt.
    with sqlite3.connect(Path(rows_spec.source.url).parent / "state" / "store.db") as store:
        moments = [row[0] for row in store.execute("select moment from watermarks order by id")]
    assert datetime.fromisoformat(moments[-1]).replace(tzinfo=None) == (START + 56 * DAY).replace(tzinfo=None)


def _dying(*args: Any, **kwargs: Any) -> Any:
    raise KeyboardInterrupt


def test_a_dry_run_leaves_no_version_no_ledger_row_and_the_decision_open(
    retrain: Retrain, rows_spec: ModelSpec
) -> None:
    assert retrain(rows_spec, as_of=START + 30 * DAY, decision_id="d", dry_run=True).action == "dry run"
    assert outcomes(rows_spec) == []
    assert retrain(rows_spec, as_of=START + 30 * DAY, decision_id="d").action == "promoted"


def test_too_few_new_rows_are_a_recorded_skip_that_force_overrides(
    retrain: Retrain, rows_spec: ModelSpec
) -> None:
    retrain(rows_spec, as_of=START + 30 * DAY)
    at = START + 31 * DAY
    assert retrain(rows_spec, as_of=at).action == "skipped"
    assert retrain(rows_spec, as_of=at, force=True).action in {"kept", "promoted"}
    assert [action for _, action, _ in outcomes(rows_spec)][:2] == ["promoted", "skipped"]


def test_a_decision_carried_out_once_is_not_carried_out_again(retrain: Retrain, rows_spec: ModelSpec) -> None:
    retrain(rows_spec, as_of=START + 30 * DAY, decision_id="d")
    again = retrain(rows_spec, as_of=START + 30 * DAY, decision_id="d", force=True)
    assert (again.action, again.why) == ("skipped", "this decision was already carried out")
    assert len(outcomes(rows_spec)) == 1


def test_under_manual_promotion_a_good_challenger_waits_and_nothing_serves(
    retrain: Retrain, rows_spec: ModelSpec
) -> None:
    spec = of(rows_spec, gate={"promotion": "manual"})
    assert retrain(spec, as_of=START + 30 * DAY, decision_id="d").action == "waiting"
    assert outcomes(spec) == [("d", "waiting", 1)]
    with sqlite3.connect(Path(spec.source.url).parent / "state" / "mlflow.db") as registry:
        assert registry.execute("select alias from registered_model_aliases").fetchall() == [("challenger",)]


def test_a_champion_that_changed_meanwhile_makes_the_promotion_a_recorded_refusal(
    retrain: Retrain, rows_spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = flows.retrain.move_champion

    def against_another(*args: Any, **kwargs: Any) -> Any:
        return real(*args, **{**kwargs, "expected": 7})

    monkeypatch.setattr(flows.retrain, "move_champion", against_another)
    assert retrain(rows_spec, as_of=START + 30 * DAY, decision_id="d").action == "refused"
    assert outcomes(rows_spec) == [("d", "refused", 1)]


def test_rows_that_break_the_contract_block_and_the_champion_stays(
    retrain: Retrain, rows_spec: ModelSpec
) -> None:
    retrain(rows_spec, as_of=START + 30 * DAY, decision_id="first")
    written(rows_spec, make_frame(2000, seed=3, days=56).rename(columns={"tenure": "tenure_months"}))
    ended = retrain(rows_spec, as_of=START + 58 * DAY, decision_id="second")
    assert ended.action == "blocked"
    assert "tenure_months" in ended.why
    assert outcomes(rows_spec)[-1] == ("second", "blocked", None)


def test_one_bad_window_checked_twice_is_one_bad_window(retrain: Retrain, rows_spec: ModelSpec) -> None:
    retrain(rows_spec, as_of=START + 30 * DAY, decision_id="first")
    nothing = rows_spec.retrain.model_copy(update={"budget_per_week": 0})  # so that the checks change nothing
    rows_spec = rows_spec.model_copy(update={"retrain": nothing})
    moved = make_frame(1500, days=35)
    moved.loc[moved["event_time"] >= pd.Timestamp(START + 28 * DAY), "spend"] *= 5
    written(rows_spec, moved)
    for minute in range(3):
        found = flows.detect_drift.detect_drift(rows_spec, as_of=START + 35 * DAY + timedelta(minutes=minute))
        assert found.outcome == "drift"
        assert found.decision.kind == "SKIP"
        assert len(found.decision.evidence["drift"]) == 1

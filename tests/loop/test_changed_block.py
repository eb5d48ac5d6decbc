"""A model block that loses a feature while the champion that uses it serves, and rows that stop coming."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pandas as pd

import flows.detect_drift
import flows.score
from tasks.core.spec import ModelSpec
from tasks.store import alerts
from tasks.store.engine import open_store
from tests.make import START, make_frame

WEEK = timedelta(days=7)
FIRST = START + 30 * timedelta(days=1)
Retrain = Callable[..., Any]


def changed(spec: ModelSpec, **features: list[str]) -> ModelSpec:
    block = spec.model_dump(mode="json")
    block["contract"] = {}
    return ModelSpec.model_validate({**block, "features": features})


def test_every_flow_goes_on_with_the_champions_own_columns_and_names_the_difference(
    retrain: Retrain, rows_spec: ModelSpec
) -> None:
    frame = make_frame(3000, days=56)
    frame.to_parquet(rows_spec.source.url)
    assert retrain(rows_spec, as_of=FIRST, decision_id="one").action == "promoted"
    less = changed(rows_spec, numeric=["tenure"], categorical=["plan", "region"])

    scored = flows.score.score(less, as_of=FIRST + WEEK)
    assert scored.rows > 300 and "'spend'" in scored.note
    checked = flows.detect_drift.detect_drift(less, as_of=FIRST + WEEK)
    assert checked.outcome == "ok" and "'spend'" in checked.note
    ended = retrain(less, as_of=FIRST + 3 * WEEK, decision_id="two")
    assert "'spend'" in ended.why and "the champion" in ended.why and "cannot" not in ended.why

    frame.drop(columns="spend").to_parquet(rows_spec.source.url)
    refused = flows.score.score(less, as_of=FIRST + 2 * WEEK)
    if refused.version == 1:
        assert refused.rows == 0 and "'spend'" in refused.why


def test_a_champion_whose_column_is_gone_is_kept_with_the_way_out(
    retrain: Retrain, rows_spec: ModelSpec
) -> None:
    frame = make_frame(3000, days=56)
    frame.to_parquet(rows_spec.source.url)
    retrain(rows_spec, as_of=FIRST, decision_id="one")
    renamed = frame.rename(columns={"spend": "amount"})
    renamed.to_parquet(rows_spec.source.url)
    other = changed(rows_spec, numeric=["tenure", "amount"], categorical=["plan", "region"])
    ended = retrain(other, as_of=FIRST + 3 * WEEK, decision_id="two")
    assert ended.action == "kept" and "'spend'" in ended.why and "flows/promote.py" in ended.why


def test_a_tenth_of_the_rows_opens_an_incident_that_the_usual_number_ends(
    retrain: Retrain, rows_spec: ModelSpec
) -> None:
    frame = make_frame(4500, days=84)
    end = FIRST + 2 * WEEK
    lost = (
        (frame["event_time"] >= end - WEEK)
        & (frame["event_time"] < end)
        & (pd.RangeIndex(len(frame)) % 10 > 0)
    )
    frame[~lost].to_parquet(rows_spec.source.url)
    retrain(rows_spec, as_of=FIRST, decision_id="one")
    causes = []
    for weeks in (0, 1, 2, 3):
        flows.detect_drift.detect_drift(rows_spec, as_of=FIRST + weeks * WEEK)
        open_now = alerts.history(open_store(None), rows_spec.name, open_only=True)
        causes.append("row volume" in [one.cause for one in open_now])
    assert causes == [False, False, True, False]


def test_a_leak_stands_in_the_result_and_opens_an_incident_for_information(
    retrain: Retrain, rows_spec: ModelSpec
) -> None:
    frame = make_frame(1500)
    frame["spend"] = frame["churned"] * 100.0 + frame["tenure"]
    frame.to_parquet(rows_spec.source.url)
    ended = retrain(rows_spec, as_of=FIRST, decision_id="one")
    assert "'spend'" in ended.why and "alone" in ended.why
    told = alerts.history(open_store(None), rows_spec.name)
    (incident,) = [each for each in told if each.cause == "leak"]
    assert incident.tier == "info" and "'spend'" in incident.message

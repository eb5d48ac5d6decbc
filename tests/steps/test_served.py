"""A window read from the prediction log is judged as the same window read from the source."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from serving.answer import masked
from tasks.core.dataset import Dataset
from tasks.core.drift.profile import build_reference
from tasks.core.drift.verdict import DriftVerdict
from tasks.core.spec import ModelSpec
from tasks.core.window import Window
from tasks.drift import check_drift
from tasks.served import fetch_served, served_reference
from tasks.settings import Settings
from tasks.store.engine import open_store, writing
from tasks.store.recorded import insert_predictions
from tests.make import START, make_frame, make_spec

WINDOW = Window(START, START + timedelta(days=28))
LATER = WINDOW.end + timedelta(days=1)
FEATURES = {"numeric": ["tenure", "spend"], "categorical": ["plan", "region"]}


class Asked:
    """What `masked` needs to know of a version."""

    def __init__(self, spec: ModelSpec):
        self.spec, self.checker = spec, self
        self.names = spec.features.all


def serve(
    spec: ModelSpec, frame: pd.DataFrame, settings: Settings, *, at: Any = None, tag: str = "p"
) -> None:
    key, asked = settings.masking_key(), Asked(spec)
    clean = frame.astype(object).where(frame.notna(), None)
    rows = [
        {
            "model": spec.name, "prediction_id": f"{tag}{place}", "version": 1, "row_key": row["event_id"],
            "event_time": row["event_time"].to_pydatetime(), "prediction": 1, "route": "champion",
            "served_at": at or row["event_time"].to_pydatetime(), "inputs": masked(asked, row, key),
        }
        for place, row in enumerate(clean.to_dict("records"))
    ]  # fmt: skip
    with writing(open_store(settings)) as connection:
        insert_predictions(connection, rows)


def judged(spec: ModelSpec, dataset: Dataset, reference: str, settings: Settings) -> DriftVerdict:
    return check_drift.fn(spec, dataset, reference, settings=settings)


def reference_of(spec: ModelSpec, settings: Settings, tmp_path: Path) -> str:
    frame = with_gaps(make_frame(4000, seed=5))
    made = build_reference(frame, spec, key=settings.masking_key(), times=frame["event_time"], deep=True)
    path = tmp_path / "reference.json"
    path.write_text(made.to_json())
    return str(path)


def from_source(frame: pd.DataFrame, tmp_path: Path) -> Dataset:
    path = tmp_path / "source.parquet"
    frame.to_parquet(path, index=False)
    return Dataset(str(path), len(frame), "0" * 64, WINDOW)


def with_gaps(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with some values missing."""
    place = frame.reset_index().index
    return frame.assign(
        tenure=frame["tenure"].where(place % 40 != 0), region=frame["region"].where(place % 50 != 0)
    )


def moved(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with a category that grew, one never seen, and a number that shifted."""
    region = frame["region"].where(frame.index % 3 != 0, "north").where(frame.index % 10 != 0, "moon")
    return frame.assign(region=region, spend=frame["spend"] * 1.5)


@pytest.mark.parametrize("sensitive", [[], ["region"], ["plan", "region"]])
@pytest.mark.parametrize("drifts", [False, True])
def test_log_and_source_give_the_same_verdict(
    settings: Settings, tmp_path: Path, sensitive: list[str], drifts: bool
) -> None:
    spec = make_spec(features={**FEATURES, "sensitive": sensitive}, drift={"rows": "log"})
    frame = with_gaps(make_frame(1500, seed=8))
    frame = moved(frame) if drifts else frame
    reference = reference_of(spec, settings, tmp_path)
    serve(spec, frame, settings)
    ours = fetch_served.fn(spec, WINDOW, LATER, settings=settings)
    assert (ours.rows, ours.missing) == (1500, ())
    theirs = judged(spec, from_source(frame, tmp_path), reference, settings)
    found = judged(spec, ours, served_reference.fn(spec, reference, settings=settings), settings)
    assert found.outcome == theirs.outcome == ("drift" if drifts else "ok")
    assert found.drifted == theirs.drifted
    assert "region" in found.drifted or not drifts
    for mine, other in zip(found.features, theirs.features, strict=True):
        assert [(one.measure, one.value) for one in mine.measures] == [
            (one.measure, pytest.approx(one.value)) for one in other.measures
        ]
    stored = Path(ours.path).read_bytes()
    assert not any(region.encode() in stored for region in ("south", "north", "moon") if sensitive)


def test_sensitive_numbers_are_left_out_and_named_and_the_others_judged(
    settings: Settings, tmp_path: Path
) -> None:
    spec = make_spec(features={**FEATURES, "sensitive": ["spend", "region"]}, drift={"rows": "log"})
    reference = reference_of(spec, settings, tmp_path)
    serve(spec, moved(with_gaps(make_frame(1500, seed=8))), settings)
    ours = fetch_served.fn(spec, WINDOW, LATER, settings=settings)
    assert ours.missing == ("spend",)
    assert "spend" not in ours.columns
    found = judged(spec, ours, served_reference.fn(spec, reference, settings=settings), settings)
    assert found.drifted == ("region",)
    assert {one.feature for one in found.features} >= {"tenure", "plan", "region"}


def test_only_the_windows_events_count_each_once_as_known_then(settings: Settings) -> None:
    spec, frame = make_spec(), make_frame(100)
    serve(spec, frame, settings)
    serve(spec, frame.head(10).assign(tenure=1.0), settings, at=WINDOW.end, tag="again")
    serve(spec, frame.head(20).assign(tenure=2.0), settings, at=LATER + timedelta(days=1), tag="later")
    with writing(open_store(settings)) as connection:
        bare = {"model": spec.name, "version": 1, "event_time": START, "served_at": START, "row_key": "x"}
        insert_predictions(connection, [{**bare, "prediction_id": "without inputs"}])
    half = Window(START, START + timedelta(days=14))
    ours = fetch_served.fn(spec, half, LATER, settings=settings)
    rows = pd.read_parquet(ours.path)
    assert ours.rows == len(rows) == 50
    assert rows["tenure"].tolist() == [1.0] * 10 + frame["tenure"].iloc[10:50].tolist()
    assert rows["event_id"].tolist() == frame["event_id"].head(50).tolist()
    assert (rows["event_time"] == frame["event_time"].head(50)).all()


def test_a_window_without_requests_is_empty(settings: Settings, tmp_path: Path) -> None:
    spec = make_spec()
    ours = fetch_served.fn(spec, WINDOW, LATER, settings=settings)
    assert ours.rows == 0
    found = judged(spec, ours, reference_of(spec, settings, tmp_path), settings)
    assert found.outcome == "undecided"


def test_without_sensitive_features_the_champions_own_reference_is_used(settings: Settings) -> None:
    assert served_reference.fn(make_spec(), "reference.json", settings=settings) == "reference.json"

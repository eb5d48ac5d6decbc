"""Labels of a second place are trained on: joined by key, as they were known at the moment of the fetch."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from tasks.core.errors import ContractError
from tasks.core.spec import ModelSpec
from tasks.fetch import fetch_training
from tasks.settings import Settings
from tasks.store import predictions, watermarks
from tasks.store.engine import open_store
from tests.make import START, make_frame, make_spec

DAY = timedelta(days=1)
AT = START + 30 * DAY


def rows_of(folder: Path, rows: int = 60) -> pd.DataFrame:
    frame = make_frame(rows)
    frame["event_id"] = range(1000, 1000 + rows)
    frame.drop(columns="churned").to_parquet(folder / "rows.parquet")
    return frame


def spec_of(folder: Path, labels: str, *, timed: bool = True, by: str = "key", **over) -> ModelSpec:
    source = {"url": str(folder / labels), "key": "customer", "column": "left", "by": by}
    source |= {"timestamp": "told"} if timed else {}
    rows = {"url": str(folder / "rows.parquet"), "key": "event_id", "timestamp": "event_time"}
    return make_spec(source=rows, label={"column": "churned", "maturity": "2d", "source": source}, **over)


def truth(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "customer": frame["event_id"],
            "left": frame["churned"],
            "told": (frame["event_time"] + DAY).dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
    )


def fetched(spec: ModelSpec, settings: Settings, at=AT) -> tuple[dict, object]:
    got = fetch_training.fn(spec, at, settings=settings)
    rows = pd.read_parquet(got.dataset.path)
    return dict(zip(rows["event_id"].astype(int), rows["churned"], strict=True)), got


@pytest.mark.parametrize("kind", ["csv", "semicolons", "parquet of floats", "texts"])
def test_labels_of_a_second_file_meet_their_rows_whatever_the_keys_are_spelled_like(
    kind: str, tmp_path: Path, settings: Settings
) -> None:
    frame = rows_of(tmp_path)
    told = truth(frame).sample(frac=1, random_state=1)
    name = "labels.parquet" if kind == "parquet of floats" else "labels.csv"
    if kind == "parquet of floats":
        told.assign(customer=told["customer"].astype(float)).to_parquet(tmp_path / name)
    else:
        told = told.assign(left=told["left"].map({0: "no", 1: "yes"})) if kind == "texts" else told
        told.to_csv(tmp_path / name, index=False, sep=";" if kind == "semicolons" else ",")
    known, got = fetched(spec_of(tmp_path, name), settings)
    want = frame["churned"].map({0: "no", 1: "yes"}) if kind == "texts" else frame["churned"]
    assert known == dict(zip(frame["event_id"], want, strict=True))
    assert (got.new_rows, got.window_rows, got.dataset.missing) == (60, 60, ())


def test_only_what_was_known_by_then_counts_and_the_newest_correction_wins(
    tmp_path: Path, settings: Settings
) -> None:
    frame = rows_of(tmp_path)
    told = truth(frame)
    told.loc[3, "told"] = "2030-01-01T00:00:00Z"  # not known yet
    told.loc[4, "left"] = np.nan  # never
    fix = told.loc[[5, 6]].assign(left=lambda rows: 1 - rows["left"])
    fix["told"] = ["2026-02-03T00:00:00Z", "2030-01-01T00:00:00Z"]
    assert pd.Timestamp(fix["told"].iloc[0]) < AT
    pd.concat([fix, told.drop(index=7)]).to_csv(tmp_path / "labels.csv", index=False)
    known, got = fetched(spec_of(tmp_path, "labels.csv"), settings)
    keys, real = frame["event_id"].tolist(), frame["churned"].tolist()
    assert {keys[3], keys[4], keys[7]}.isdisjoint(known) and len(known) == 57
    assert known[keys[5]] == 1 - real[5] and known[keys[6]] == real[6]
    assert got.window_rows == 57


def test_without_a_time_the_last_label_of_a_key_counts(tmp_path: Path, settings: Settings) -> None:
    frame = rows_of(tmp_path)
    told = truth(frame).drop(columns="told")
    pd.concat([told, told.head(1).assign(left=lambda rows: 1 - rows["left"])]).to_csv(
        tmp_path / "labels.csv", index=False
    )
    known, _ = fetched(spec_of(tmp_path, "labels.csv", timed=False), settings)
    assert known[1000] == 1 - frame["churned"][0] and len(known) == 60


def test_a_label_that_came_late_or_was_corrected_is_seen_by_the_next_fetch_from_a_database(
    tmp_path: Path, settings: Settings
) -> None:
    frame = rows_of(tmp_path)
    url = f"sqlite:///{tmp_path / 'rows.db'}"
    frame.drop(columns="churned").to_sql("customer_events", sa.create_engine(url), index=False)
    told = truth(frame)
    told.drop(index=10).to_csv(tmp_path / "labels.csv", index=False)
    spec = spec_of(tmp_path, "labels.csv")
    source = spec.source.model_copy(update={"url": url, "table": "customer_events", "timezone": "UTC"})
    spec = spec.model_copy(update={"source": source})
    known, got = fetched(spec, settings)
    assert len(known) == 59 and 1010 not in known
    watermarks.commit(open_store(settings), spec.name, got.next_watermark, list(got.increments), "attempt")
    told.assign(left=1 - told["left"]).to_csv(tmp_path / "labels.csv", index=False)
    known, _ = fetched(spec, settings, AT + DAY)
    assert known == dict(zip(frame["event_id"], 1 - frame["churned"], strict=True))


def test_labels_by_the_id_of_a_prediction_find_the_row_it_was_about(
    tmp_path: Path, settings: Settings
) -> None:
    frame = rows_of(tmp_path)
    served = pd.DataFrame(
        {
            "prediction_id": [f"p{key}" for key in frame["event_id"]],
            "row_key": frame["event_id"].astype(str),
            "event_time": frame["event_time"],
            "prediction": 0,
            "score": None,
        }
    )
    predictions.log(open_store(settings), served, model="churn", version=1, served_at=AT)
    told = truth(frame).assign(customer=served["prediction_id"])
    told.to_csv(tmp_path / "labels.csv", index=False)
    known, _ = fetched(spec_of(tmp_path, "labels.csv", by="prediction_id"), settings)
    assert known == dict(zip(frame["event_id"], frame["churned"], strict=True))


def test_a_second_place_without_the_label_or_any_label_is_told(tmp_path: Path, settings: Settings) -> None:
    frame = rows_of(tmp_path)
    truth(frame).rename(columns={"left": "gone"}).to_csv(tmp_path / "labels.csv", index=False)
    with pytest.raises(ContractError, match="'left'"):
        fetched(spec_of(tmp_path, "labels.csv"), settings)
    truth(frame).head(0).to_csv(tmp_path / "labels.csv", index=False)
    assert fetched(spec_of(tmp_path, "labels.csv", timed=False), settings)[1].dataset.rows == 0

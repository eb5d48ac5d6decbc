"""The manifest vouches for a version's files; golden rows show nobody and notice every change."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.errors import RegistryError
from tasks.core.model.bundle import REQUIRED, Manifest, Promise, plain, safe_url
from tasks.core.model.golden import PREDICTION, Answers, choose_golden, difference, with_answers
from tasks.core.window import Window
from tests.make import START, make_frame, make_spec

DIGEST = hashlib.sha256(b"x").hexdigest()


def manifest(**over: Any) -> Manifest:
    known: dict[str, Any] = {
        "model": "churn",
        "attempt": "a1",
        "created": START,
        "files": dict.fromkeys(REQUIRED, DIGEST),
        "promise": Promise("roc_auc", 0.8, 0.75, 0.85, 200),
        "train_window": Window(START, START + timedelta(days=28)),
        "cut": START + timedelta(days=22),
        "classes": ("no", "yes"),
        "gate": plain({"outcome": "promote", "reasons": ("better",), "low": float("nan")}),
    }
    return Manifest(**{**known, **over})


def test_a_manifest_reads_back_as_it_was_written() -> None:
    written = manifest()
    assert Manifest.from_json(written.to_json()) == written
    assert Manifest.from_json(written.to_json()).digest == written.digest


def test_the_digest_is_that_of_the_text_and_moves_with_every_field() -> None:
    written = manifest()
    assert written.digest == hashlib.sha256(written.to_json().encode()).hexdigest()
    changed = [
        manifest(attempt="a2"),
        manifest(created=START + timedelta(seconds=1)),
        manifest(promise=dataclasses.replace(written.promise, low=0.74)),
        manifest(files={**written.files, "model.skops": "0" * 64}),
        manifest(gate={"outcome": "keep"}),
    ]
    assert len({written.digest, *(item.digest for item in changed)}) == 6


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.pop("cut"),
        lambda raw: raw.update(format=2),
        lambda raw: raw["files"].pop("model.skops"),
        lambda raw: raw["files"].update({"../x": DIGEST}),
        lambda raw: raw["files"].update({"a/b": DIGEST}),
        lambda raw: raw["files"].update({"manifest.json": DIGEST}),
        lambda raw: raw["files"].update({".hidden": DIGEST}),
        lambda raw: raw["files"].update({"x": "none"}),
        lambda raw: raw.update(files=[]),
        lambda raw: raw.update(train_window={"start": raw["cut"], "end": raw["cut"]}),
        lambda raw: raw.update(created="yesterday"),
        lambda raw: raw.update(promise={"value": 1}),
    ],
)
def test_a_manifest_that_lacks_or_escapes_anything_is_refused(change: Any) -> None:
    raw = json.loads(manifest().to_json())
    change(raw)
    with pytest.raises(RegistryError):
        Manifest.from_json(json.dumps(raw))


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"format": 1}'])
def test_text_that_is_no_manifest_is_refused(text: str) -> None:
    with pytest.raises(RegistryError):
        Manifest.from_json(text)


def test_plain_values_are_json_whatever_they_were() -> None:
    value = {
        1: np.float64("inf"),
        "a": np.array([1, 2]),
        "b": (datetime(2026, 1, 1, tzinfo=UTC), {"z", "y"}),
        "c": manifest().promise,
        "d": np.bool_(True),
    }
    assert plain(value) == {
        "1": None,
        "a": [1, 2],
        "b": ["2026-01-01T00:00:00+00:00", ["y", "z"]],
        "c": {"metric": "roc_auc", "value": 0.8, "low": 0.75, "high": 0.85, "rows": 200},
        "d": True,
    }


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("sqlite:///x.db", "sqlite:///x.db"),
        ("postgresql+psycopg://u:p%40ss@h/d", "postgresql+psycopg://u:***@h/d"),
        ("postgresql+psycopg://u:p@ss@h/d", "postgresql+psycopg://u:***@h/d"),
        ("https://h/x.csv?sig=abc&b=1", "https://h/x.csv?sig=***&b=***"),
        ("data/part-?.parquet", "data/part-?.parquet"),
        ("postgresql+psycopg://u:${PASSWORD}@h/d", "postgresql+psycopg://u:***@h/d"),
    ],
)
def test_a_url_is_kept_without_what_is_secret_in_it(url: str, kept: str) -> None:
    assert safe_url(url) == kept


def test_golden_rows_are_spread_over_the_holdout_and_are_its_own_rows() -> None:
    frame, spec = make_frame(1000), make_spec()
    chosen = choose_golden(frame, spec)
    assert list(chosen.columns) == spec.features.all
    assert len(chosen) == 50
    pd.testing.assert_series_equal(
        chosen["spend"], frame["spend"].iloc[np.linspace(0, 999, 50).round()].reset_index(drop=True)
    )
    pd.testing.assert_frame_equal(choose_golden(frame, spec), chosen)


@pytest.mark.parametrize(("rows", "expected"), [(0, 0), (1, 1), (7, 7), (50, 50), (51, 50)])
def test_a_small_holdout_gives_each_row_once(rows: int, expected: int) -> None:
    chosen = choose_golden(make_frame(1000).head(rows), make_spec())
    assert len(chosen) == expected
    assert chosen["spend"].is_unique


def test_sensitive_values_do_not_stand_beside_their_row() -> None:
    frame = make_frame(1000)
    frame.loc[3, "region"] = "lighthouse"  # one row only: it would point at somebody
    spec = make_spec(
        features={
            "numeric": ["tenure", "spend"],
            "categorical": ["plan", "region"],
            "sensitive": ["region", "tenure"],
        }
    )
    chosen = choose_golden(frame, spec, count=1000)
    assert set(chosen["region"]) == {"north", "south", "east", "west"}
    assert not set(chosen["tenure"]) & set(frame["tenure"])
    assert chosen["tenure"].nunique() == 9
    assert chosen["tenure"].between(frame["tenure"].min(), frame["tenure"].max()).all()
    pd.testing.assert_series_equal(chosen["spend"], frame["spend"])
    # Independent of the row they stand in: about a quarter of the regions agree by chance.
    assert 0.2 < (chosen["region"] == frame["region"]).mean() < 0.3


def test_a_sensitive_column_without_a_crowd_or_without_values_is_missing_in_golden_rows() -> None:
    frame = make_frame(60).assign(region=[f"r{i}" for i in range(60)], tenure=np.nan)
    spec = make_spec(
        features={"numeric": ["tenure"], "categorical": ["region"], "sensitive": ["region", "tenure"]},
        contract={},
    )
    assert choose_golden(frame, spec).isna().all(axis=None)


def answers(rows: int = 20, seed: int = 0) -> Answers:
    scores = np.random.default_rng(seed).random(rows)
    return Answers(np.where(scores > 0.5, "yes", "no"), np.column_stack([1 - scores, scores]))


def golden(given: Answers) -> pd.DataFrame:
    return with_answers(make_frame(len(given.prediction))[["spend"]], given)


def test_the_same_answers_are_equal_and_rounding_is_forgiven() -> None:
    known = answers()
    assert difference(golden(known), known) is None
    assert known.probabilities is not None
    assert difference(golden(known), Answers(known.prediction, known.probabilities * (1 + 1e-9))) is None


@given(row=st.integers(0, 19), size=st.floats(1e-4, 1.0))
def test_one_changed_probability_is_noticed(row: int, size: float) -> None:
    known = answers()
    assert known.probabilities is not None
    changed = known.probabilities.copy()
    changed[row, 1] += size
    assert difference(golden(known), Answers(known.prediction, changed)) == (
        "other probabilities on 1 of 20 golden rows"
    )


def test_other_labels_other_shapes_and_silence_are_differences() -> None:
    known = answers()
    assert known.probabilities is not None
    flipped = known.prediction.copy()
    flipped[4] = "yes" if flipped[4] == "no" else "no"
    assert difference(golden(known), Answers(flipped, known.probabilities)) == (
        "other predictions on 1 of 20 golden rows"
    )
    assert difference(golden(known), Answers(known.prediction[:5], known.probabilities[:5])) is not None
    assert difference(golden(known), Answers(known.prediction, known.probabilities[:, :1])) is not None
    assert difference(golden(known), Answers(known.prediction)) == "probabilities on one side only"
    assert difference(golden(known).head(0), Answers(known.prediction[:0])) == "no golden rows"


def test_a_nan_equals_nothing_and_regression_is_compared_as_numbers() -> None:
    known = Answers(np.array([1.0, 2.0, 1e9]))
    assert difference(golden(known), Answers(np.array([1.0, 2.0, 1e9 + 1]))) is None
    assert difference(golden(known), Answers(np.array([1.0, 2.1, 1e9]))) is not None
    assert difference(golden(known), Answers(np.array([1.0, np.nan, 1e9]))) is not None
    lost = Answers(np.array([1.0, np.nan, 3.0]))
    assert difference(golden(lost), lost) is not None
    assert list(golden(known)[PREDICTION]) == [1.0, 2.0, 1e9]

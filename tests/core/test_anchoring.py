from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tasks.core.model.anchoring import choose_anchor
from tests.make import make_frame, make_spec


def spec(rows: int, **over):
    return make_spec(gate={"anchor": {"rows": rows}, "min_rows": 20, **over})


def test_an_anchor_is_spread_over_time_and_keeps_the_share_of_every_class() -> None:
    frame = make_frame(2000)
    found, why = choose_anchor(spec(200), frame.sample(frac=1, random_state=1))
    assert (len(found), why) == (200, "")
    assert found["churned"].mean() == pytest.approx(frame["churned"].mean(), abs=0.006)
    assert found["event_time"].is_monotonic_increasing
    quarter = pd.cut(found["event_time"].astype("int64"), 4).value_counts(sort=False).to_numpy()
    assert quarter.min() >= 45 and quarter.max() <= 55
    assert found["event_time"].iloc[0] <= frame["event_time"].iloc[10]
    assert found["event_time"].iloc[-1] >= frame["event_time"].iloc[-10]
    assert found["event_id"].is_unique


def test_the_same_rows_in_any_order_give_the_same_anchor() -> None:
    frame = make_frame(500)
    first, _ = choose_anchor(spec(100), frame)
    again, _ = choose_anchor(spec(100), frame.iloc[::-1])
    pd.testing.assert_frame_equal(first, again)


def test_fewer_rows_than_wanted_are_all_taken() -> None:
    frame = make_frame(150)
    found, why = choose_anchor(spec(1000), frame)
    assert why == "" and set(found["event_id"]) == set(frame["event_id"])


def test_a_rare_class_keeps_a_few_rows() -> None:
    frame = make_frame(4000).assign(churned=0)
    frame.loc[[100, 900, 1700, 2500, 3300, 3900], "churned"] = 1
    found, _ = choose_anchor(spec(100), frame)
    assert found["churned"].sum() == 5 and len(found) == 100


def test_several_classes_and_numbers_make_an_anchor_too() -> None:
    frame = make_frame(900).assign(churned=[f"c{i % 3}" for i in range(900)])
    found, _ = choose_anchor(spec(90), frame)
    assert found["churned"].value_counts().to_dict() == {"c0": 30, "c1": 30, "c2": 30}
    amounts = make_spec(
        task="regression",
        metric="r2",
        estimator={"class": "sklearn.linear_model.Ridge"},
        gate={"anchor": {"rows": 50}, "min_rows": 20},
    )
    found, _ = choose_anchor(amounts, make_frame(500).assign(churned=np.arange(500.0)))
    assert len(found) == 50 and found["churned"].iloc[[0, -1]].tolist() == [0.0, 499.0]


def test_rows_that_could_never_be_judged_are_passed_over() -> None:
    frame = make_frame(400).assign(weight=1.0)
    frame.loc[3, "spend"], frame.loc[5, "tenure"] = np.inf, -np.inf
    frame.loc[[7, 8, 9], "weight"] = [np.nan, np.inf, -1.0]
    frame.loc[11, "spend"] = np.nan
    weighed = make_spec(gate={"anchor": {"rows": 1000}, "min_rows": 20, "weight": "weight"})
    found, _ = choose_anchor(weighed, frame)
    left_out = set(frame["event_id"]) - set(found["event_id"])
    assert left_out == set(frame["event_id"].iloc[[3, 5, 7, 8, 9]])
    frame["tenure"] = "what is no number"  # for the model to refuse
    assert len(choose_anchor(spec(1000), frame)[0]) == 399


@pytest.mark.parametrize("column", ["spend", "region", "churned", "event_time", "event_id", "weight"])
def test_rows_without_a_column_that_the_spec_names_are_no_anchor(column: str) -> None:
    frame = make_frame(400).assign(weight=1.0).drop(columns=column)
    weighed = make_spec(gate={"anchor": {"rows": 100}, "min_rows": 20, "weight": "weight"})
    found, why = choose_anchor(weighed, frame)
    assert found.empty and why == f"no column {column}"


@pytest.mark.parametrize(
    ("frame", "rows", "words"),
    [
        (make_frame(19), 100, "19 rows, fewer than gate.min_rows"),
        (make_frame(0), 100, "0 rows"),
        (make_frame(100).assign(churned=1), 100, "one class only"),
    ],
)
def test_what_cannot_be_an_anchor_is_said(frame: pd.DataFrame, rows: int, words: str) -> None:
    found, why = choose_anchor(spec(rows), frame)
    assert found.empty and words in why

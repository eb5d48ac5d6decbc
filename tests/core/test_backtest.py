"""Retraining policies over one history whose best answers are known."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from tasks.core.errors import SpecError
from tasks.core.replay.backtest import run_policies
from tests.make import START, make_spec

WEEKS, ROWS = 16, 200
SPEC = make_spec(
    features={"numeric": ["x"]},
    contract={},
    label={"column": "churned", "maturity": "0d"},
    estimator={"params": {"max_iter": 15, "max_leaf_nodes": 4}},
    window={"training": "28d", "check": "7d"},
    retrain={"min_new_rows": 0, "cooldown": "1d"},
    gate={"min_rows": 50, "floor": 0.6},
)


def history(change: int | None, *, seed: int = 0) -> pd.DataFrame:
    """Return weeks in which x says the answer, and from week `change` on says the opposite."""
    rng = np.random.default_rng(seed)
    count = WEEKS * ROWS
    x = rng.normal(size=count)
    sign = np.where(np.arange(count) // ROWS < (WEEKS if change is None else change), 1.0, -1.0)
    return pd.DataFrame(
        {
            "event_id": np.arange(count),
            "event_time": pd.Timestamp(START) + pd.to_timedelta(np.arange(count) * 7 / ROWS, unit="D"),
            "x": x,
            "churned": (rng.random(count) < 1 / (1 + np.exp(-2.5 * sign * x))).astype(int),
        }
    )


def test_fixed_policies_hold_the_scores_that_scikit_learn_gives_when_asked_directly() -> None:
    frame = history(None)
    found = run_policies(frame, SPEC, policies=["never", "every 3 windows", "every window"])
    assert found.windows == WEEKS - 4
    assert [policy.retrainings for policy in found.policies] == [0, 3, 11]

    def direct(step: int) -> list[float]:
        scores = []
        for week in range(4, WEEKS):
            last = 4 + ((week - 4) // step * step if step else 0)
            train, test = frame[(last - 4) * ROWS : last * ROWS], frame[week * ROWS : (week + 1) * ROWS]
            model = HistGradientBoostingClassifier(random_state=0, max_iter=15, max_leaf_nodes=4)
            model.fit(train[["x"]].to_numpy(), train["churned"])
            scores.append(
                float(roc_auc_score(test["churned"], model.predict_proba(test[["x"]].to_numpy())[:, 1]))
            )
        return scores

    for policy, step in zip(found.policies, (0, 3, 1), strict=True):
        assert policy.scores == pytest.approx(direct(step))
        assert policy.mean_score == pytest.approx(np.mean(direct(step)))


def test_after_a_change_the_loop_recovers_with_few_retrainings_and_never_does_not() -> None:
    found = {p.name: p for p in run_policies(history(8), SPEC).policies}
    assert found["never"].scores[-1] < 0.2
    assert found["loop"].scores[-1] > 0.8
    # Without a gate's floor a model fitted amid the change promises little, keeps that, and stays.
    assert 1 <= found["on decay"].retrainings <= 5
    assert 1 <= found["loop"].retrainings <= 5
    assert found["loop"].mean_score > found["never"].mean_score + 0.2
    assert found["every 4 windows"].retrainings == 2


def test_where_nothing_changes_the_loop_hardly_retrains_and_loses_nothing() -> None:
    found = {p.name: p for p in run_policies(history(None), SPEC, policies=["never", "loop"]).policies}
    assert found["loop"].retrainings <= 1
    assert found["loop"].mean_score == pytest.approx(found["never"].mean_score, abs=0.01)


def test_no_policy_learns_from_labels_before_they_are_mature() -> None:
    late = make_spec(
        **{
            **{
                name: getattr(SPEC, name).model_dump(by_alias=True)
                for name in ("features", "estimator", "window")
            },
            "contract": {},
            "label": {"column": "churned", "maturity": "14d"},
        }
    )
    frame = history(8)
    soon, later = (
        run_policies(frame, spec, first=timedelta(days=42), policies=["every window"]).policies[0].scores
        for spec in (SPEC, late)
    )
    # The change is at the third served window. Half of the training rows are new two windows after it.
    assert soon[4] > 0.5
    assert later[4] < 0.2
    assert later[-1] > 0.8


def test_the_callers_frame_is_left_alone_in_any_order_and_unlabelled_rows_are_left_out() -> None:
    frame = history(None)
    shuffled = frame.sample(frac=1, random_state=1).astype({"churned": float})
    extra = shuffled.head(5).assign(event_id=-1, churned=np.nan)
    given = pd.concat([shuffled, extra])
    before = given.copy()
    found, plain = (run_policies(rows, SPEC, policies=["never"]).policies[0] for rows in (given, frame))
    pd.testing.assert_frame_equal(given, before)
    assert found.scores == pytest.approx(plain.scores)


def test_progress_is_told_after_every_window() -> None:
    told: list[tuple[str, int, int]] = []
    run_policies(history(None), SPEC, policies=["never"], progress=lambda *step: told.append(step))
    assert told == [("never", done, 12) for done in range(1, 13)]


@pytest.mark.parametrize("name", ["sometimes", "every 0 windows", "every -1 windows"])
def test_an_unknown_policy_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(SpecError, match="expected one of never, every window"):
        run_policies(history(None), SPEC, policies=[name])


def test_a_history_too_short_or_without_labels_is_refused() -> None:
    frame = history(None)
    with pytest.raises(SpecError, match="a history of 27 days"):
        run_policies(frame[: 4 * ROWS], SPEC)
    with pytest.raises(SpecError, match="without a labelled row"):
        run_policies(frame.assign(churned=np.nan), SPEC)

"""Retraining policies over one history whose best answers are known."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from tasks.core.errors import SpecError
from tasks.core.replay.backtest import PARTS, prepare_history, run_policies
from tasks.core.replay.backtest_loop import Loop
from tasks.core.replay.history import Fitted
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
    assert found["loop"].mean_score > found["never"].mean_score + 0.1
    assert found["every 4 windows"].retrainings == 2


def test_where_nothing_changes_the_loop_retrains_no_oftener_than_its_age_limit_and_loses_nothing() -> None:
    found = {p.name: p for p in run_policies(history(None), SPEC, policies=["never", "loop"]).policies}
    assert found["loop"].retrainings <= 3  # twelve windows, and four of them in a training window
    assert found["loop"].mean_score == pytest.approx(found["never"].mean_score, abs=0.01)


def test_a_policy_counts_its_fits_apart_from_retrainings_and_promotions() -> None:
    found = {
        p.name: p for p in run_policies(history(None), SPEC, policies=["every 4 windows", "loop"]).policies
    }
    calendar, loop = found["every 4 windows"], found["loop"]
    assert (calendar.retrainings, calendar.promotions, calendar.fits) == (2, 2, 3)
    assert loop.fits == 2 + loop.retrainings + loop.promotions  # each is judged, and refitted where it passes
    assert len(loop.versions) == len(loop.partners) == WEEKS - 4
    assert len(loop.debts) == WEEKS - 5


def test_fits_are_made_once_and_a_second_run_takes_them_from_the_first() -> None:
    fits: dict[str, Fitted] = {}
    first = run_policies(history(8), SPEC, policies=["every window", "loop"], fits=fits)
    made = len(fits)
    again = run_policies(history(8), SPEC, policies=["every window", "loop"], fits=fits)
    assert len(fits) == made
    assert again == first


def test_the_loop_without_its_parts_differs_from_the_loop_only_in_them() -> None:
    names = ["loop", *(f"loop without {part}" for part in PARTS)]
    found = {p.name: p for p in run_policies(history(8), SPEC, policies=names).policies}
    assert not any(found["loop without second opinion"].partners)
    assert found["loop without refit"].fits == 1 + found["loop without refit"].retrainings
    assert found["loop without gate"].promotions == found["loop without gate"].retrainings
    assert found["loop without staleness"].retrainings <= found["loop"].retrainings


@settings(max_examples=8, deadline=None)
@given(st.integers(5, WEEKS - 2), st.integers(0, 3), st.booleans())
def test_changing_rows_after_a_moment_changes_no_decision_before_it(
    week: int, seed: int, labels: bool
) -> None:
    """No peeking: labels of a window mature at its end, and nothing of a later window is known before."""
    frame = history(8)
    later = frame["event_time"] >= pd.Timestamp(START) + pd.Timedelta(weeks=week)
    rng = np.random.default_rng(seed)
    other = frame.copy()
    if labels:
        other.loc[later, "churned"] = rng.integers(0, 2, int(later.sum()))
    other.loc[later, "x"] = rng.normal(3.0, 2.0, int(later.sum()))
    loops = []
    for rows in (frame, other):
        prepared, begin = prepare_history(rows, SPEC)
        loop = Loop(prepared, begin)
        for window in prepared.windows[: week - 4]:
            served = prepared.rows(window)
            loop.after(window, served, loop.answers(served))
        loops.append(loop)
    assert loops[0].decisions == loops[1].decisions
    assert loops[0].compared == loops[1].compared
    assert loops[0].serving == loops[1].serving


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
    with pytest.raises(SpecError, match="expected one of never"):
        run_policies(history(None), SPEC, policies=[name])


def test_a_history_too_short_or_without_labels_is_refused() -> None:
    frame = history(None)
    with pytest.raises(SpecError, match="a history of 27 days"):
        run_policies(frame[: 4 * ROWS], SPEC)
    with pytest.raises(SpecError, match="without a labelled row"):
        run_policies(frame.assign(churned=np.nan), SPEC)

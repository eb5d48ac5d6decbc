from __future__ import annotations

from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tasks.core.drift.counting.bins import category_bins, count, numeric_bins
from tasks.core.drift.matters.effect import effects_of, put_back
from tasks.core.drift.matters.estimate import Estimate, estimate_performance
from tasks.core.drift.matters.harm import LIMIT, judge_harm, rank_impacts
from tasks.core.drift.matters.insight import Insight, build_insight
from tasks.core.drift.matters.label_mix import LabelMix
from tasks.core.drift.profile import build_reference
from tasks.core.model.pipeline import build_pipeline, predict
from tests.make import make_frame, make_spec

SPEC = make_spec(gate={"margin": 0.02}, performance={"band": 0.01})


def knowing(promised: float | None = 0.8, importance: dict[str, float] | None = None) -> Insight:
    return Insight("roc_auc", promised, 1000, importance or {}, None, "", LabelMix({}))


def between(low: float, high: float, problem: str = "") -> Estimate:
    return Estimate("roc_auc", (low + high) / 2, low, high, low, high, 1000, 0.95, problem=problem)


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (0.70, 0.779, "harmful"),
        (0.70, 0.781, "unknown"),
        (0.779, 0.85, "unknown"),
        (0.781, 0.85, "harmless"),
        (0.85, 0.90, "harmless"),
    ],
)
def test_harm_is_told_only_where_the_whole_interval_is_on_one_side(low, high, outcome) -> None:
    found = judge_harm(between(low, high), knowing(), SPEC)
    assert found.outcome == outcome
    assert (found.low, found.high, found.promised) == (low, high, 0.8)
    assert f"[{low:.4g}, {high:.4g}], promised 0.8" in found.reason
    assert found.limit == LIMIT


def test_an_error_is_worse_when_it_is_larger_and_the_band_is_a_share_of_the_promise() -> None:
    spec = make_spec(
        task="regression",
        metric="neg_mean_absolute_error",
        estimator={"class": "sklearn.ensemble.HistGradientBoostingRegressor"},
        performance={"band": 0.1},
    )
    for low, high, outcome in [(-130, -111, "harmful"), (-130, -109, "unknown"), (-109, -90, "harmless")]:
        assert judge_harm(between(low, high), knowing(-100.0), spec).outcome == outcome


@pytest.mark.parametrize(
    ("estimate", "insight", "says"),
    [
        (Estimate("roc_auc", problem="12 rows, 50 are needed"), knowing(), "12 rows"),
        (between(0.1, 0.2), None, "not known"),
        (between(0.1, 0.2), knowing(None), "not known"),
        (between(0.1, 0.2, "9% of the rows have scores"), knowing(), "not to be relied on: 9%"),
        (between(0.8, 0.9, "9% of the rows have scores"), knowing(), "not to be relied on: 9%"),
    ],
)
def test_an_estimate_that_cannot_be_relied_on_is_neither_harmful_nor_harmless(
    estimate, insight, says
) -> None:
    found = judge_harm(estimate, insight, SPEC)
    assert found.outcome == "unknown"
    assert says in found.reason
    assert asdict(found)["limit"] == LIMIT


def moved(name: str, outcome: str = "drift", **values: float | None) -> SimpleNamespace:
    results = [SimpleNamespace(measure=m, value=v) for m, v in values.items()]
    return SimpleNamespace(feature=name, outcome=outcome, measures=results)


def test_features_are_ranked_by_importance_times_size_of_change() -> None:
    insight = knowing(importance={"spend": 0.10, "tenure": 0.04, "plan": 0.0})
    found = rank_impacts(
        [
            moved("plan", chi_square=0.9),
            moved("other", ks=0.3, psi=7.0),
            moved("new", ks=0.5, missing_share=None),
            moved("spend", "warn", ks=0.2, psi=0.15),
            moved("tenure", ks=0.1, missing_share=0.8),
            moved("calm", "ok", ks=0.1),
            moved("__score__", ks=0.9),
        ],
        insight,
        effects={"spend": 0.03},
    )
    assert [one.feature for one in found] == ["tenure", "spend", "plan", "new", "other"]
    assert [one.impact for one in found] == [pytest.approx(0.032), pytest.approx(0.02), 0.0, None, None]
    assert (found[1].effect, found[1].outcome, found[3].moved) == (0.03, "warn", 0.5)
    assert [one.importance for one in rank_impacts([moved("spend", ks=0.2)], None)] == [None]


# From rows to harm.


@pytest.fixture(scope="module")
def champion():
    frame, holdout = make_frame(4000), make_frame(2000, seed=1)
    model = build_pipeline(SPEC).fit(frame, frame["churned"])
    return model, build_insight(model, holdout, SPEC, seed=0), build_reference(holdout, SPEC, deep=False)


def judged(model, insight: Insight, window: pd.DataFrame):
    return judge_harm(estimate_performance(predict(model, window), insight, SPEC), insight, SPEC)


def test_undrifted_windows_are_never_harmful_and_rows_the_model_cannot_tell_apart_are(champion) -> None:
    model, insight, _ = champion
    found = [judged(model, insight, make_frame(2000, seed=seed)).outcome for seed in range(2, 14)]
    assert "harmful" not in found
    assert found.count("harmless") >= 6
    window = make_frame(2000, seed=20)
    middling = np.abs(predict(model, window).probabilities[:, 1] - 0.3) < 0.12
    assert judged(model, insight, window[middling]).outcome == "harmful"


def test_the_effect_of_an_unmoved_column_is_nearly_nothing_and_of_a_moved_one_is_seen(champion) -> None:
    model, _, reference = champion
    window = make_frame(2000, seed=30)
    names = SPEC.features.all
    calm = effects_of(model, window, reference, names, SPEC)
    assert max(calm.values()) < 0.03
    shifted = window.assign(tenure=window["tenure"] / 4)
    found = effects_of(model, shifted, reference, names, SPEC)
    assert found["tenure"] > 0.1 > max(found["spend"], found["region"])
    assert effects_of(model, shifted, reference, names, SPEC) == found
    assert effects_of(model, shifted[:0], reference, names, SPEC) == {}
    assert effects_of(model, shifted, reference, ["unknown"], SPEC) == {}


def test_a_number_is_put_back_to_the_reference_in_its_old_rank() -> None:
    rng = np.random.default_rng(0)
    before, now = pd.Series(rng.gamma(2, 10, 5000)), pd.Series(rng.gamma(2, 10, 3000) * 2 + 5)
    now[:600] = np.nan
    bins = numeric_bins("x", before)
    found = put_back(now, bins, count(bins, before), rng)
    assert not found.isna().any(), "the reference had no gaps"
    kept = now.notna()
    assert found[kept].rank().corr(now[kept].rank()) > 0.999
    for share in (0.1, 0.25, 0.5, 0.75, 0.9):
        assert found.quantile(share) == pytest.approx(before.quantile(share), rel=0.06)
    more = put_back(before[:1000], bins, count(bins, pd.Series([*before, *[np.nan] * 5000])), rng)
    assert more.isna().mean() == pytest.approx(0.5)


def test_a_number_of_few_values_and_categories_are_put_back_to_their_shares() -> None:
    rng = np.random.default_rng(1)
    before, now = pd.Series(rng.binomial(1, 0.1, 4000)), pd.Series(rng.binomial(1, 0.6, 2000))
    bins = numeric_bins("x", before)
    assert put_back(now, bins, count(bins, before), rng).mean() == pytest.approx(0.1, abs=0.01)
    plans = pd.Series(rng.choice(["a", "b", "c"], 4000, p=[0.5, 0.3, 0.2]))
    later = pd.Series(rng.choice(["a", "b", "new", None], 2000, p=[0.1, 0.3, 0.4, 0.2]))
    cells = category_bins("plan", plans)
    shares = put_back(later, cells, count(cells, plans), rng).value_counts(normalize=True, dropna=False)
    assert shares.to_dict() == pytest.approx({"a": 0.5, "b": 0.3, "c": 0.2}, abs=0.04)
    hashed = category_bins("plan", plans, key=b"k")
    hidden = put_back(later, hashed, count(hashed, plans, key=b"k"), rng, key=b"k")
    assert set(hidden.dropna()) <= {"a", "b", "new"}, "c is only known as a hash here"
    assert (hidden == "a").mean() > 0.5

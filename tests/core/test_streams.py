"""Every stream does what its name says, and its truth is what scikit-learn and scipy find in its rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression

from tasks.core.errors import SpecError
from tasks.core.replay.backtest import run_policies
from tasks.core.replay.regret import advantage, over_seeds, regret
from tasks.core.replay.streams import (
    LABEL,
    NUMERIC,
    REGRESSIONS,
    STREAMS,
    TIME,
    TRAINING_WINDOWS,
    Stream,
    concept_distance,
    design_matrix,
    make_stream,
)
from tasks.core.spec import parse_spec

ROWS = 400


def window(stream: Stream, index: int, rows: int = ROWS) -> pd.DataFrame:
    return stream.frame.iloc[index * rows : (index + 1) * rows]


def accuracy(concept: np.ndarray, frame: pd.DataFrame) -> float:
    return float(((design_matrix(frame) @ concept > 0) == frame[LABEL]).mean())


@pytest.mark.parametrize("name", STREAMS)
def test_a_seed_gives_one_stream_and_another_seed_another(name: str) -> None:
    first, again, other = (make_stream(name, rows=50, windows=30, seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first.frame, again.frame)
    assert first.truth.hindsight == again.truth.hindsight
    assert not np.allclose(first.frame["x1"], other.frame["x1"])
    assert not np.allclose(first.truth.concepts[0], other.truth.concepts[0])


@pytest.mark.parametrize("name", STREAMS)
def test_the_best_score_is_what_the_best_predictions_get_on_fresh_luck(name: str) -> None:
    stream = make_stream(name, rows=ROWS, seed=4)
    bayes, hindsight = np.array(stream.truth.bayes), np.array(stream.truth.hindsight)
    right = (stream.truth.best == stream.truth.clean).reshape(-1, ROWS).mean(axis=1)
    assert right == pytest.approx(hindsight)
    z = (hindsight - bayes) / np.sqrt(bayes * (1 - bayes) / ROWS)
    # Given the features each row has its own chance: a sum of unequal coins varies a little less than that.
    assert stats.kstest(z, "norm").pvalue > 0.01
    assert 0.5 < np.std(z) < 1.2


def test_no_drift_is_independent_rows_of_one_distribution() -> None:
    frame = make_stream("none", rows=ROWS, seed=5).frame
    pieces = [frame.iloc[start : start + ROWS] for start in range(0, len(frame), ROWS)]
    p_values = [stats.kstest(piece[name], "norm").pvalue for piece in pieces for name in NUMERIC]
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    for column in ("region", LABEL):
        table = pd.crosstab(np.repeat(np.arange(len(pieces)), ROWS), frame[column])
        assert stats.chi2_contingency(table).pvalue > 0.01
    label = frame[LABEL].to_numpy()
    assert stats.pearsonr(label[1:], label[:-1]).pvalue > 0.01
    by_region = [frame.loc[frame["region"] == region, "x1"] for region in frame["region"].unique()]
    assert stats.f_oneway(*by_region).pvalue > 0.01
    assert (
        stats.kstest(stats.spearmanr(frame[list(NUMERIC)]).pvalue[np.triu_indices(6, 1)], "uniform").pvalue
        > 0.01
    )


def test_the_concept_is_the_rule_that_a_fit_on_its_rows_finds() -> None:
    stream = make_stream("none", rows=2000, seed=6)
    fitted = LogisticRegression(C=np.inf).fit(design_matrix(stream.frame), stream.frame[LABEL])
    assert fitted.coef_[0] == pytest.approx(3 * stream.truth.concepts[0], abs=0.05)


@pytest.mark.parametrize("name", ["none", "poison", "moving noise"])
def test_streams_without_a_change_have_one_concept(name: str) -> None:
    truth = make_stream(name, rows=20).truth
    assert len(truth.concepts) == 1
    assert set(truth.concept) == {0}


def test_a_slow_stream_turns_its_concept_evenly() -> None:
    truth = make_stream("slow", rows=20).truth
    steps = [concept_distance(*truth.concepts[k : k + 2]) for k in range(59)]
    assert steps == pytest.approx([1 / 60] * 59)
    assert concept_distance(truth.concepts[0], truth.concepts[30]) == pytest.approx(0.5)


def test_a_sudden_stream_holds_one_concept_and_then_another() -> None:
    stream = make_stream("sudden", rows=ROWS, seed=7)
    concept, concepts = np.array(stream.truth.concept), stream.truth.concepts
    jumps = np.flatnonzero(np.diff(concept)) + 1
    assert len(jumps) >= 3
    assert jumps[0] >= TRAINING_WINDOWS
    assert np.diff(jumps).min() >= 8
    assert set(np.diff(concept)) == {0, 1}
    for jump in jumps:
        old, new = concepts[concept[jump - 1]], concepts[concept[jump]]
        assert concept_distance(old, new) == pytest.approx(0.5)
        assert accuracy(old, window(stream, jump - 1)) > 0.77
        assert accuracy(new, window(stream, jump)) > 0.77
        assert 0.4 < accuracy(old, window(stream, jump)) < 0.6


def test_a_gradual_stream_gives_the_next_concept_more_and_more_rows() -> None:
    stream = make_stream("gradual", rows=4000, windows=40, seed=8)
    bayes, concept = np.array(stream.truth.bayes), stream.truth.concept
    change = int(np.flatnonzero(np.diff(concept))[0]) + 1  # from here on the new concept has most rows
    old, new = stream.truth.concepts[:2]
    held = [accuracy(old, window(stream, k, 4000)) for k in range(change - 5, change + 5)]
    assert stats.spearmanr(held, np.arange(10)).statistic < -0.95
    assert held[0] > 0.8
    assert held[-1] < 0.55
    assert accuracy(new, window(stream, change + 4, 4000)) > 0.8
    assert bayes[change - 1 : change + 1].max() < bayes[:8].min() - 0.05  # what is mixed cannot be foretold


def test_a_recurring_stream_has_two_concepts_in_turn() -> None:
    truth = make_stream("recurring", rows=20, seed=9).truth
    concept = np.array(truth.concept)
    jumps = np.flatnonzero(np.diff(concept)) + 1
    assert len(truth.concepts) == 2
    assert concept_distance(*truth.concepts) == pytest.approx(0.5)
    assert len(jumps) >= 4
    assert set(np.diff(jumps)) <= set(range(6, 11))


def test_poison_records_ones_as_zeros_in_some_windows_and_touches_nothing_else() -> None:
    poison, none = (make_stream(name, rows=ROWS, seed=10) for name in ("poison", "none"))
    features = [*NUMERIC, "region", TIME]
    pd.testing.assert_frame_equal(poison.frame[features], none.frame[features])
    assert (poison.truth.clean == none.frame[LABEL]).all()
    pd.testing.assert_frame_equal(poison.clean_frame(), none.frame)
    wrong = (poison.frame[LABEL].to_numpy() != poison.truth.clean).reshape(-1, ROWS)
    poisoned = np.array(poison.truth.poisoned)
    assert 6 <= poisoned.sum() <= 14
    assert not poisoned[:TRAINING_WINDOWS].any()
    assert not wrong[~poisoned].any()
    ones = int(poison.truth.clean.reshape(-1, ROWS)[poisoned].sum())
    assert stats.binomtest(int(wrong.sum()), ones, 0.7).pvalue > 0.01
    assert (poison.truth.clean[wrong.ravel()] == 1).all()


def test_moving_noise_turns_labels_over_and_leaves_the_better_class_as_it_is() -> None:
    noisy, none = (make_stream(name, rows=2000, seed=11) for name in ("moving noise", "none"))
    noise, plain = np.array(noisy.truth.noise), np.array(none.truth.bayes)
    assert (noisy.truth.best == none.truth.best).all()
    assert noise.min() == 0
    assert noise.max() == pytest.approx(0.25)
    assert np.array(noisy.truth.bayes) == pytest.approx((1 - noise) * plain + noise * (1 - plain))
    held = [accuracy(noisy.truth.concepts[0], window(noisy, k, 2000)) for k in range(60)]
    assert stats.linregress(noise, held).slope == pytest.approx(1 - 2 * plain.mean(), abs=0.05)


@pytest.mark.parametrize("name", REGRESSIONS)
def test_a_regression_is_its_concept_and_normal_noise(name: str) -> None:
    stream = make_stream(name, rows=ROWS, seed=12, task="regression")
    noise = stream.frame[LABEL] - stream.truth.best
    assert stats.kstest(noise, "norm").pvalue > 0.01
    assert stream.truth.bayes == pytest.approx([-np.sqrt(2 / np.pi)] * 60)
    assert stream.truth.hindsight == pytest.approx(-noise.abs().to_numpy().reshape(60, -1).mean(axis=1))


@pytest.mark.parametrize("name", [*STREAMS, *REGRESSIONS])
@pytest.mark.parametrize("rows", [1, 60, 100])
def test_a_stream_has_as_many_whole_windows_as_asked_for(name: str, rows: int) -> None:
    stream = make_stream(name, rows=rows, windows=20)
    spec = parse_spec(stream.spec)
    assert list(stream.frame.columns) == [spec.source.key, spec.source.timestamp, *spec.features.all, LABEL]
    assert len(stream.frame) == 20 * rows
    week = (stream.frame[TIME] - stream.frame[TIME].iloc[0]) // pd.Timedelta("7d")
    assert (week.value_counts() == rows).all()
    assert len(stream.truth.bayes) == len(stream.truth.concept) == len(stream.truth.poisoned) == 20


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_the_model_block_of_a_stream_runs_and_regret_is_what_is_left_behind(task: str) -> None:
    stream = make_stream("slow", rows=100, windows=30, task=task)
    result = run_policies(stream.frame, parse_spec(stream.spec), policies=["never", "every window"])
    assert result.windows == 30 - TRAINING_WINDOWS
    hindsight = stream.truth.hindsight[TRAINING_WINDOWS:]
    lost = regret({policy.name: [policy.scores] for policy in result.policies}, [hindsight])
    assert 0 < lost["every window"].mean < lost["never"].mean
    never = next(policy.scores for policy in result.policies if policy.name == "never")
    assert lost["never"].mean == pytest.approx(np.mean(hindsight) - np.mean(never))


def test_regret_pairs_windows_within_a_seed_and_its_error_is_over_seeds() -> None:
    scores = [[0.5, None, 0.7], [0.6, 0.6, float("nan")], [0.9, 0.9, 0.9]]
    best = [[0.7, 0.1, 0.8], [0.9, 0.7, 0.1], [0.9, 1.0, 0.8]]
    found = regret({"loop": scores}, best)["loop"]
    assert found.per_seed == pytest.approx([0.15, 0.2, 0.0])
    assert found.mean == pytest.approx(0.35 / 3)
    assert found.standard_error == pytest.approx(stats.sem([0.15, 0.2, 0.0]))
    assert advantage(scores, best).mean == pytest.approx(-found.mean)
    assert np.isnan(over_seeds([1.0]).standard_error)


@pytest.mark.parametrize(
    ("scores", "baseline"),
    [([], []), ([[0.5]], [[0.5], [0.6]]), ([[0.5]], [[0.5, 0.6]]), ([[None]], [[0.5]])],
)
def test_scores_that_cannot_be_paired_are_refused(scores: list, baseline: list) -> None:
    with pytest.raises(SpecError):
        advantage(scores, baseline)


@pytest.mark.parametrize(
    "given",
    [
        {"name": "sideways"},
        {"name": "poison", "task": "regression"},
        {"name": "none", "rows": 0},
        {"name": "none", "windows": TRAINING_WINDOWS},
    ],
)
def test_a_stream_that_cannot_be_made_is_refused(given: dict) -> None:
    with pytest.raises(SpecError):
        make_stream(**given)

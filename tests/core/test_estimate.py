from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, brier_score_loss, f1_score, log_loss, roc_auc_score

from tasks.core.drift.counting.sample import Sample
from tasks.core.drift.matters.estimate import estimate_performance
from tasks.core.drift.matters.expectation import expect
from tasks.core.drift.matters.insight import Insight, _fitted, _score
from tasks.core.drift.matters.label_mix import LabelMix
from tasks.core.model.pipeline import Predictions
from tests.make import make_spec

Rows = tuple[np.ndarray, Predictions]


def spec(metric: str = "roc_auc", **over: object):
    return make_spec(metric=metric, **over)


def numbers_spec(metric: str = "neg_mean_absolute_error"):
    return spec(
        metric, task="regression", estimator={"class": "sklearn.ensemble.HistGradientBoostingRegressor"}
    )


def rows(count: int, seed: int, *, shift: float = 0.0, concept: float = 1.0) -> Rows:
    """Labels beside what a badly calibrated model says of an input at `shift` that means `concept`."""
    rng = np.random.default_rng(seed)
    x = rng.normal(shift, 1, count)
    y = (rng.random(count) < 1 / (1 + np.exp(0.6 - 1.3 * concept * x))).astype(int)
    p = 1 / (1 + np.exp(0.3 - 0.8 * x))  # rises with the truth, and is not it
    return y, Predictions((p > 0.5).astype(int), np.column_stack([1 - p, p]), (0, 1))


def insight_of(truth: np.ndarray, said: Predictions, wanted, sample: Sample | None = None) -> Insight:
    promised = _score(said, truth, wanted)
    fitted, problem = _fitted(said, truth, wanted, sample, 0)
    return Insight(wanted.metric, promised, len(truth), {}, fitted, problem, LabelMix({}))


def test_the_expected_auc_is_that_of_expected_true_and_false_positives() -> None:
    rng = np.random.default_rng(0)
    score, likely = rng.random(300), rng.random(300)
    said = Predictions((score > 0.5).astype(int), np.column_stack([1 - score, score]), (0, 1))
    found = expect(said, said.probabilities, "roc_auc").expected(np.column_stack([1 - likely, likely]))
    order = np.argsort(-score)  # by hand: the curve through the expected confusion at every threshold
    true = np.concatenate([[0], np.cumsum(likely[order])]) / likely.sum()
    false = np.concatenate([[0], np.cumsum(1 - likely[order])]) / (1 - likely).sum()
    assert found == pytest.approx(
        np.trapezoid(true, false) if hasattr(np, "trapezoid") else np.trapz(true, false)
    )


def test_expected_accuracy_f1_loss_and_brier_are_the_sums_over_expected_labels() -> None:
    rng = np.random.default_rng(1)
    score, likely = rng.uniform(0.01, 0.99, 200), rng.random(200)
    answer = (score > 0.5).astype(int)
    said = Predictions(answer, np.column_stack([1 - score, score]), (0, 1))
    both, weights = np.repeat([0, 1], 200), np.concatenate([1 - likely, likely])
    twice, scores = np.tile(answer, 2), np.tile(score, 2)
    for metric, theirs in [
        ("accuracy", accuracy_score(both, twice, sample_weight=weights)),
        ("f1", f1_score(both, twice, sample_weight=weights)),
        ("neg_log_loss", -log_loss(both, scores, sample_weight=weights)),
        ("neg_brier_score", -brier_score_loss(both, scores, sample_weight=weights)),
        ("roc_auc", roc_auc_score(both, scores, sample_weight=weights)),
    ]:
        of = expect(said, said.probabilities, metric)
        assert of.expected(np.column_stack([1 - likely, likely])) == pytest.approx(theirs), metric


@pytest.mark.parametrize("metric", ["roc_auc", "average_precision", "accuracy", "f1", "neg_log_loss"])
def test_drawn_labels_agree_on_average_with_the_closed_form(metric: str) -> None:
    _, said = rows(2000, 2)
    likely = said.probabilities
    of, rng = expect(said, likely, metric), np.random.default_rng(0)
    drawn = np.array([of.drawn(likely, rng) for _ in range(300)])
    assert drawn.mean() == pytest.approx(of.expected(likely), abs=4 * drawn.std() / np.sqrt(300) + 0.001)


def test_the_positive_class_of_the_spec_is_found_however_it_is_written() -> None:
    _, said = rows(500, 3)
    of = {p: expect(said, said.probabilities, "f1", positive=p) for p in (0, 1, "1", None)}
    found = {p: one.expected(said.probabilities) for p, one in of.items()}
    assert found[1] == found["1"] == found[None] != found[0]


@pytest.mark.parametrize("metric", ["roc_auc", "accuracy", "f1", "neg_log_loss", "neg_brier_score"])
@pytest.mark.parametrize("shift", [-0.7, 0.7])
def test_under_covariate_shift_the_estimate_agrees_with_the_truth(metric: str, shift: float) -> None:
    wanted = spec(metric)
    errors, spans = [], []
    for seed in range(2):
        insight = insight_of(*rows(8000, seed), wanted)
        truth, said = rows(8000, 100 + seed, shift=shift)
        found = estimate_performance(said, insight, wanted)
        errors.append(found.value - _score(said, truth, wanted))
        spans.append(found.realised_high - found.realised_low)
        assert found.problem == ""
        assert found.low <= found.value <= found.high
    assert abs(np.mean(errors)) < 0.01, "labels alone leave 0.006 open at 8,000 rows"
    assert max(spans) < 0.06


def test_the_interval_covers_an_undrifted_window_about_as_often_as_it_says() -> None:
    wanted = spec("roc_auc")
    expected = realised = 0
    for seed in range(60):
        insight = insight_of(*rows(1000, seed), wanted)
        truth, said = rows(500, 1000 + seed)
        found = estimate_performance(said, insight, wanted)
        expected += found.low <= insight.promised <= found.high  # undrifted: what was promised still holds
        realised += found.realised_low <= _score(said, truth, wanted) <= found.realised_high
    assert expected >= 52
    assert realised >= 50


def test_the_estimate_is_blind_to_concept_drift() -> None:
    wanted = spec()
    insight = insight_of(*rows(10_000, 0), wanted)
    truth, said = rows(10_000, 1, concept=0.15)
    found = estimate_performance(said, insight, wanted)
    assert _score(said, truth, wanted) < 0.57, "the model hardly knows anything any more"
    assert found.value == pytest.approx(insight.promised, abs=0.01), "and the estimate does not see it"
    assert found.problem == ""


def test_multiclass_text_labels_are_estimated() -> None:
    rng = np.random.default_rng(5)
    names = np.array(["a", "b", "c"])

    def three(count: int, shift: float) -> Rows:
        x = rng.normal(shift, 1, (count, 3))
        p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
        y = names[[rng.choice(3, p=row) for row in p]]
        return y, Predictions(names[p.argmax(axis=1)], p, ("a", "b", "c"))

    for metric in ("neg_log_loss", "roc_auc_ovr", "f1_macro", "accuracy"):
        wanted = spec(metric)
        insight = insight_of(*three(3000, 0.0), wanted)
        truth, said = three(3000, 0.3)
        found = estimate_performance(said, insight, wanted)
        assert found.value == pytest.approx(_score(said, truth, wanted), abs=0.04), metric


def numbers(count: int, seed: int, shift: float = 0.0) -> tuple[np.ndarray, Predictions, Sample]:
    """A regression whose error grows with an input that the prediction hardly shows."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(shift, 1, count), rng.normal(0, 3, count)
    said = 20 + b + 0.2 * a
    truth = said + np.exp(0.5 * a) * rng.normal(size=count)
    codes = np.column_stack([np.clip(10 * a + 30, 0, 63), np.clip(3 * b + 30, 0, 63)]).astype(np.int16)
    return truth, Predictions(said, None, None), Sample(("a", "b"), codes)


@pytest.mark.parametrize(
    "metric", ["neg_mean_absolute_error", "neg_root_mean_squared_error", "r2", "neg_mean_squared_error"]
)
@pytest.mark.parametrize("shift", [-0.7, 0.0, 0.5])
def test_a_regressions_error_follows_the_inputs_that_it_depends_on(metric: str, shift: float) -> None:
    wanted = numbers_spec(metric)
    truth, said, sample = numbers(20_000, 0)
    insight = insight_of(truth, said, wanted, sample)
    later, answers, cells = numbers(20_000, 1, shift)
    found = estimate_performance(answers, insight, wanted, sample=cells)
    true = _score(answers, later, wanted)
    left = abs(found.value - true)
    assert left < 0.08 * abs(true) + 0.005, "the outermost leaves do not go on rising"
    if shift:
        assert left < 0.25 * abs(true - insight.promised), "nearer the truth than the promise is"


def test_the_leaves_of_two_batches_are_the_leaves_of_both() -> None:
    truth, said, sample = numbers(4000, 0)
    tree = insight_of(truth, said, numbers_spec(), sample).estimator
    leaf = tree.leaf_of(said.prediction, sample)
    half = [slice(0, 2000), slice(2000, 4000)]
    parts = [tree.leaf_of(said.prediction[h], Sample(sample.names, sample.codes[h])) for h in half]
    assert np.array_equal(leaf, np.concatenate(parts))
    assert np.bincount(leaf).min() > 0


CLASSES = insight_of(*rows(2000, 0), spec())
NUMBERS = insight_of(*numbers(2000, 0)[:2], numbers_spec(), numbers(2000, 0)[2])


@pytest.mark.parametrize(
    ("insight", "said", "wanted", "why"),
    [
        (None, rows(500, 1)[1], spec(), "nothing is kept"),
        (CLASSES, rows(49, 1)[1], spec(), "49 rows, 50 are needed"),
        (CLASSES, rows(500, 1)[1], spec("accuracy"), "trained for roc_auc"),
        (insight_of(*rows(100, 0), spec()), rows(500, 1)[1], spec(), "100 rows in the holdout"),
        (CLASSES, Predictions(np.zeros(90), None, None), spec(), "no probabilities"),
        (CLASSES, Predictions(np.zeros(90), np.full((90, 3), 1 / 3), (0, 1, 2)), spec(), "of 3 classes"),
        (CLASSES, Predictions(np.zeros(90), np.full((90, 2), np.nan), (0, 1)), spec(), "not finite"),
        (CLASSES, rows(500, 1, shift=4.0)[1], spec(), "scores that the holdout never showed"),
        (NUMBERS, numbers(500, 1)[1], numbers_spec(), "without the cells of"),
        (NUMBERS, Predictions(np.array([np.inf] * 60), None, None), numbers_spec(), "60 scores are not"),
    ],
)  # fmt: skip
def test_what_must_not_be_relied_on_says_why(insight, said, wanted, why: str) -> None:
    found = estimate_performance(said, insight, wanted)
    assert why in found.problem


def test_at_most_twenty_thousand_rows_are_looked_at_and_a_seed_gives_the_same() -> None:
    _, said = rows(30_000, 1)
    found = estimate_performance(said, CLASSES, spec())
    assert found.rows == 20_000
    assert estimate_performance(said, CLASSES, spec()) == found
    table = np.full((30_000, 6), 1 / 6)
    six = Predictions(np.zeros(30_000, dtype=int), table, tuple(range(6)))
    truth = np.arange(30_000) % 6
    wanted = spec("neg_log_loss")
    assert estimate_performance(six, insight_of(truth, six, wanted), wanted).rows == 10_000

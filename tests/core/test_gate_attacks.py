"""Poison, and erosion: what the compared rows alone cannot see."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.ensemble import HistGradientBoostingClassifier

from tasks.core.evaluation.gate import AnchorEvidence, GateEvidence, PairedScores, decide_promotion
from tasks.core.evaluation.scoring import Scored
from tasks.core.spec_gate import Gate
from tests.make import START

GATE = Gate(rule="better", on_doubt="ask")
ROWS, TRUSTED = 3000, 1000


def rows(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Five numbers and whether a row lies in the slice (40 %); the label is known but for 3 % noise."""
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.normal(size=(count, 5)), rng.random(count) < 0.4])
    y = (x[:, 0] + x[:, 1] * x[:, 2] > 0).astype(int)
    return x, np.where(rng.random(count) < 0.03, 1 - y, y)


def fitted(x: np.ndarray, y: np.ndarray) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(max_iter=60, early_stopping=False, random_state=0).fit(x, y)


def said(model: HistGradientBoostingClassifier, x: np.ndarray, y: np.ndarray) -> Scored:
    chance = model.predict_proba(x)
    return Scored(y, (chance[:, 1] > 0.5).astype(int), chance, (0, 1))


@cache
def clean_champion(count: int = ROWS) -> HistGradientBoostingClassifier:
    return fitted(*rows(count, seed=1))


def compared(challenger, champion, x, y, *, metric="accuracy", anchored=True, gate=GATE):
    """Ask the gate about rows of the newest window, with or without trusted rows beside it."""
    trusted = rows(TRUSTED, seed=9)
    frozen = AnchorEvidence(said(challenger, *trusted), said(champion, *trusted), 1, START, "f" * 64)
    keys = np.arange(len(y))
    return decide_promotion(
        GateEvidence(
            metric,
            PairedScores(keys, said(challenger, x, y), "new"),
            PairedScores(keys, said(champion, x, y), "old"),
            first_row=START,
            champion_train_end=START,
            anchor=frozen if anchored else None,
        ),
        gate,
    )


def poisoned(count: int, seed: int, how: str, share: float) -> tuple[np.ndarray, np.ndarray]:
    x, y = rows(count, seed)
    if how == "slice":
        return x, np.where(x[:, 5] == 1, 1 - y, y)
    return x, np.where(np.random.default_rng(seed + 50).random(count) < share, 1 - y, y)


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc", "neg_log_loss"])
def test_labels_flipped_on_a_slice_make_a_challenger_look_better_and_the_anchor_stops_it(metric: str) -> None:
    challenger = fitted(*poisoned(ROWS, 2, "slice", 0.4))
    window = poisoned(ROWS, 3, "slice", 0.4)
    blind = compared(challenger, clean_champion(), *window, metric=metric, anchored=False)
    assert blind.outcome == "promote" and blind.difference > 0.2, "the same-window holdout is fooled"
    found = compared(challenger, clean_champion(), *window, metric=metric)
    assert found.outcome == "ask" and found.anchor.outcome == "worse"
    assert found.anchor.score < found.anchor.keeper_score - 0.2 and found.anchor.high < -0.2
    assert "trusted rows of the anchor" in found.reasons[1]
    keeping = compared(challenger, clean_champion(), *window, metric=metric, gate=Gate(on_doubt="keep"))
    assert keeping.outcome == "keep"


def test_the_flipped_slice_moves_the_scores_as_the_labels_say() -> None:
    challenger = fitted(*poisoned(ROWS, 2, "slice", 0.4))
    found = compared(challenger, clean_champion(), *poisoned(ROWS, 3, "slice", 0.4))
    assert found.champion_score == pytest.approx(0.57, abs=0.03), "right on the other 60 % only"
    assert found.challenger_score == pytest.approx(0.93, abs=0.03)
    assert found.anchor.keeper_score == pytest.approx(0.94, abs=0.03)
    assert found.anchor.score == pytest.approx(0.58, abs=0.04)


@pytest.mark.parametrize("share", [0.1, 0.3])
@pytest.mark.parametrize("metric", ["accuracy", "roc_auc"])
def test_random_poison_is_not_promoted(share: float, metric: str) -> None:
    for seed in (2, 12, 22):
        challenger = fitted(*poisoned(ROWS, seed, "random", share))
        found = compared(
            challenger, clean_champion(), *poisoned(ROWS, seed + 1, "random", share), metric=metric
        )
        assert found.outcome != "promote", (seed, found.sentence())
        assert found.anchor.score < found.anchor.keeper_score


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc", "neg_log_loss"])
def test_a_clean_and_truly_better_challenger_is_promoted(metric: str) -> None:
    found = compared(clean_champion(), clean_champion(400), *rows(ROWS, 3), metric=metric)
    assert found.outcome == "promote" and found.anchor.outcome == "ok" and found.doubts == ()


# Erosion: each challenger is truly worse than the champion of its day by exactly the margin.


def by_label(rng: np.random.Generator, count: int, truth: float, gain: float) -> tuple[Scored, Scored]:
    """A challenger and a champion whose accuracies differ by `gain`; they disagree on 10 % of the rows."""
    y, draw = rng.integers(0, 2, count), rng.random(count)
    only_mine, only_theirs = (0.1 + gain) / 2, (0.1 - gain) / 2
    both = truth - only_theirs
    mine = draw < both + only_mine
    theirs = (draw < both) | ((draw >= both + only_mine) & (draw < both + 0.1))
    return Scored(y, np.where(mine, y, 1 - y), None, (0, 1)), Scored(
        y, np.where(theirs, y, 1 - y), None, (0, 1)
    )


def by_rank(rng: np.random.Generator, count: int, truth: float, gain: float) -> tuple[Scored, Scored]:
    """A challenger and a champion whose AUCs differ by `gain`; their scores correlate."""
    y, shared = rng.integers(0, 2, count), rng.normal(size=count)
    found = []
    for auc in (truth + gain, truth):
        distance = np.sqrt(2) * norm.ppf(auc)
        chance = norm.cdf(distance * (y - 0.5) + 0.9 * shared + np.sqrt(0.19) * rng.normal(size=count))
        found.append(Scored(y, (chance > 0.5).astype(int), np.column_stack([1 - chance, chance]), (0, 1)))
    return found[0], found[1]


def asked(mine: Scored, theirs: Scored, metric: str, anchor: AnchorEvidence | None = None):
    keys = np.arange(len(mine.y_true))
    given = GateEvidence(
        metric,
        PairedScores(keys, mine, "new"),
        PairedScores(keys, theirs, "old"),
        first_row=START,
        champion_train_end=START,
        anchor=anchor,
    )
    return decide_promotion(given, GATE).outcome


@pytest.mark.parametrize(("metric", "made"), [("accuracy", by_label), ("roc_auc", by_rank)])
@pytest.mark.parametrize("count", [200, 1000])
def test_twenty_challengers_at_the_margin_lose_less_than_one_margin_in_all(
    metric: str, made, count: int
) -> None:
    rng, lost = np.random.default_rng(7), []
    for _ in range(12):
        truth = 0.85
        for _ in range(20):
            if asked(*made(rng, count, truth, -GATE.margin), metric) == "promote":
                truth -= GATE.margin
        lost.append((0.85 - truth) / GATE.margin)
    assert np.mean(lost) < (0.75 if count == 200 else 0.4), "margins lost in twenty rounds, on average"


def test_the_anchor_ends_an_erosion_that_every_window_hides() -> None:
    """Each newest window flatters its challenger by three points; truly each is one margin worse."""
    gone = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        y, best = rng.integers(0, 2, TRUSTED), rng.random(TRUSTED) < 0.85
        keeper, now = Scored(y, np.where(best, y, 1 - y), None, (0, 1)), best
        for step in range(20):
            right = now.mean()
            lose, win = rng.random(TRUSTED) < 0.055 / right, rng.random(TRUSTED) < 0.045 / (1 - right)
            new = np.where(now, ~lose, win)
            frozen = AnchorEvidence(Scored(y, np.where(new, y, 1 - y), None, (0, 1)), keeper, 1)
            if asked(*by_label(rng, 3000, 0.85, 0.03), "accuracy", frozen) == "ask":
                gone.append(step)
                break
            now = new
    assert len(gone) == 10 and np.mean(gone) < 5 and max(gone) <= 8, "promotions before a person is asked"

"""Two models whose rows are planted exactly, and the gate's word on them."""

from __future__ import annotations

import numpy as np

from tasks.core.evaluation.gate import AnchorEvidence, GateEvidence, PairedScores, decide_promotion
from tasks.core.evaluation.scoring import Scored
from tasks.core.evaluation.verdicts import GateDecision
from tasks.core.spec_gate import Gate
from tests.make import START

GATE = Gate(rule="better", on_doubt="ask")
"""Most of these tests are about proof and about doubts that a person hears."""


def models(
    rows: int, gain: float, *, differ: float = 0.1, accuracy: float = 0.85, seed: int = 0
) -> tuple[Scored, Scored]:
    """A challenger and a champion of this accuracy; exactly this share of the rows is right for one only."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, rows)
    only_mine = round(rows * (differ + gain) / 2)
    only_theirs = round(rows * (differ - gain) / 2)
    both = round(rows * accuracy) - only_theirs
    place = rng.permutation(rows)
    mine, theirs = np.zeros(rows, bool), np.zeros(rows, bool)
    mine[place[: both + only_mine]] = True
    theirs[place[:both]] = True
    theirs[place[both + only_mine : both + only_mine + only_theirs]] = True
    return Scored(y, np.where(mine, y, 1 - y), None, (0, 1)), Scored(
        y, np.where(theirs, y, 1 - y), None, (0, 1)
    )


def evidence(mine: Scored, theirs: Scored | None, metric: str = "accuracy", **more) -> GateEvidence:
    """Return what the gate looks at, with nothing wrong but what is given."""
    keys = np.arange(len(mine.y_true))
    given = {
        "metric": metric,
        "challenger": PairedScores(keys, mine, "new"),
        "champion": None if theirs is None else PairedScores(keys, theirs, "old"),
        "first_row": START,
        "champion_train_end": START,
        "resamples": 200,
    }
    return GateEvidence(**{**given, **more})


def judged(
    mine: Scored, theirs: Scored | None, gate: Gate = GATE, metric: str = "accuracy", **more
) -> GateDecision:
    """Return the gate's decision on these two."""
    return decide_promotion(evidence(mine, theirs, metric, **more), gate)


def anchor(gain: float, rows: int = 1000, **more) -> AnchorEvidence:
    """Return trusted rows on which the challenger gains this much on version 4."""
    mine, theirs = models(rows, gain, seed=5)
    return AnchorEvidence(mine, theirs, 4, START, "a" * 64, **more)

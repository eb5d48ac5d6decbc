from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from tasks.core.evaluation import gate as gate_module
from tasks.core.evaluation.gate import AnchorEvidence, GateEvidence, PairedScores, Worth, decide_promotion
from tasks.core.evaluation.scoring import Scored
from tests.gates import GATE, anchor, evidence, judged, models
from tests.make import START


def spoilt(pair: tuple[Scored, Scored], which: int, **changed) -> GateEvidence:
    both = list(pair)
    both[which] = replace(both[which], **changed)
    return evidence(*both)


def chances(pair: tuple[Scored, Scored], which: int, value: float) -> GateEvidence:
    given = np.tile([0.5, 0.5], (2000, 1))
    given[3, 1] = value
    return spoilt(pair, which, probabilities=given)


def with_nan(pair: tuple[Scored, Scored], which: int, field: str) -> GateEvidence:
    values = getattr(pair[which], field).astype(float)
    values[9] = np.inf
    return spoilt(pair, which, **{field: values})


REFUSED = {
    "overlap": (lambda p: evidence(*p, overlap=7), "trained on 7 of the compared rows"),
    "trouble": (lambda p: evidence(*p, trouble="the champion cannot be loaded"), "cannot be loaded"),
    "anchor unreadable": (lambda p: evidence(*p, anchor=AnchorEvidence(trouble="gone")), "the anchor: gone"),
    "anchor unscored": (lambda p: evidence(*p, anchor=AnchorEvidence()), "was not scored on it"),
    "anchor learnt": (
        lambda p: evidence(*p, anchor=anchor(0.0, rows_shared=2)),
        "trained on 2 rows of the anchor",
    ),
    "anchor rows": (
        lambda p: evidence(*p, anchor=replace(anchor(0.0), keeper=models(999, 0.0)[0])),
        "keeper were scored on different rows",
    ),
    "anchor not finite": (
        lambda p: evidence(
            *p,
            anchor=replace(anchor(0.0), keeper=replace(anchor(0.0).keeper, prediction=np.full(1000, np.nan))),
        ),
        "the anchor: 1000 predictions",
    ),
    "challenger's label": (lambda p: with_nan(p, 0, "y_true"), "1 labels beside the challenger"),
    "champion's label": (lambda p: with_nan(p, 1, "y_true"), "1 labels beside the champion"),
    "challenger's prediction": (
        lambda p: with_nan(p, 0, "prediction"),
        "1 predictions beside the challenger",
    ),
    "champion's prediction": (lambda p: with_nan(p, 1, "prediction"), "1 predictions beside the champion"),
    "champion's probability": (
        lambda p: chances(p, 1, np.nan),
        "1 probabilities of the champion are missing",
    ),
    "no probability": (lambda p: chances(p, 0, 1.5), "probabilities of the challenger lie outside 0 to 1"),
    "probabilities' shape": (
        lambda p: spoilt(p, 0, probabilities=np.full((2000, 3), 1 / 3)),
        "do not have one column per class",
    ),
    "prediction missing": (
        lambda p: spoilt(p, 0, prediction=np.where(np.arange(2000) == 5, None, p[0].prediction)),
        "1 predictions beside the challenger are missing",
    ),
    "prediction short": (lambda p: spoilt(p, 0, prediction=p[0].prediction[1:]), "differ in number"),
    "champion longer": (
        lambda p: spoilt(p, 1, y_true=np.append(p[1].y_true, 0), prediction=np.append(p[1].prediction, 0)),
        "scored on different rows",
    ),
    "weights short": (lambda p: evidence(*p, weights=np.ones(5)), "5 weights for 2000 rows"),
    "weights negative": (lambda p: evidence(*p, weights=-np.ones(2000)), "weights of the rows are negative"),
    "weights nan": (lambda p: evidence(*p, weights=np.full(2000, np.nan)), "not finite"),
    "weights text": (lambda p: evidence(*p, weights=np.full(2000, "secret")), "not finite"),
    "weights nothing": (lambda p: evidence(*p, weights=np.zeros(2000)), "all zero"),
    "slices": (lambda p: evidence(*p, slices={"region": np.array(["a"])}), "slice region has 1 values"),
    "groups": (lambda p: evidence(*p, groups={"sex": np.array(["a"])}), "group sex has 1 values"),
    "worth short": (lambda p: evidence(*p, worth=Worth(np.ones(3), np.ones(2000))), "3 of 2000 rows"),
    "worth nan": (lambda p: evidence(*p, worth=Worth(np.ones(2000), np.full(2000, np.nan))), "worth of 2000"),
    "worth unknown": (lambda p: evidence(*p, worth=Worth(np.ones(2000))), "worth of the champion's answers"),
    "same version": (
        lambda p: replace(evidence(*p), champion=PairedScores(np.arange(2000), p[1], "new")),
        "the same version",
    ),
    "seen": (lambda p: evidence(*p, champion_train_end=START + timedelta(seconds=1)), "has learnt from some"),
    "metric": (lambda p: evidence(*p, "no_such_metric"), "no_such_metric"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_every_fault_refuses_with_its_reason(kind: str) -> None:
    make, words = REFUSED[kind]
    found = decide_promotion(make(models(2000, 0.05)), GATE)
    assert found.outcome == "refuse", found
    assert any(words in reason for reason in found.reasons), found.reasons
    assert "secret" not in found.sentence()


def test_an_error_inside_the_gate_refuses_and_names_no_values(monkeypatch) -> None:
    def broken(*_, **__):
        raise KeyError("row 17 of ada@example.org")

    for name in ("compare", "calibration_of", "judge_fairness", "faults_of", "verdict_of"):
        with monkeypatch.context() as patch:
            patch.setattr(gate_module, name, broken)
            found = judged(*models(2000, 0.05))
        assert found.outcome == "refuse" and "KeyError in broken" in found.reasons[0], name
        assert "ada" not in found.sentence()


def test_numbers_that_are_text_refuse_a_regression_without_printing_them() -> None:
    y = np.linspace(0, 1, 500)
    text = np.full(500, "secret", dtype=object)
    found = judged(Scored(y, text), Scored(y, y), metric="neg_mean_absolute_error")
    assert found.outcome == "refuse" and "500 predictions beside the challenger" in found.reasons[0]

"""What a comparison's page says besides the metric."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest

from tasks.core.evaluation.verdicts import (
    AnchorResult,
    BaselineResult,
    CalibrationResult,
    GateDecision,
    GuardResult,
    McNemar,
    ValueResult,
)
from tasks.core.records.comparison import comparison_markdown
from tasks.core.records.gate_parts import parts_markdown
from tests.make import make_spec

NAN = float("nan")
GATE = GateDecision(
    "ask", ("better by 0.02; worse on trusted rows",), 0.83, 0.81, 0.02, 0.01, 0.03, 1600,
    confidence=0.95, method="DeLong", p_better=0.9991,
    mcnemar=McNemar(90, 60, 0.0172),
    baselines=(
        BaselineResult("dummy", 0.5, 0.33, 0.3, 0.36, "ok"),
        BaselineResult("linear", 0.829, 0.001, -0.01, 0.012, "undecided"),
    ),
    anchor=AnchorResult(
        "worse", 1000, 0.7, 0.95, 3, -0.25, -0.28, -0.22, 0.01, datetime(2026, 1, 5, tzinfo=UTC), "ab"
    ),
    guards=(GuardResult("fairness", "ok", 0.04, 0.1, "region"),),
    calibration=CalibrationResult(0.021, 0.9, 0.034, 1.1),
    value=ValueResult("EUR", 1.2, 1.0, 0.2, 0.1, 0.3),
)  # fmt: skip


@dataclass(frozen=True)
class Compared:
    decision: GateDecision
    metrics: dict[str, float] = field(default_factory=dict)
    champion_metrics: dict[str, float] = field(default_factory=dict)


def test_everything_the_gate_looked_at_has_its_row() -> None:
    text = "\n".join(parts_markdown(GATE))
    assert "| ✗ | trusted rows (1,000, fixed 2026-01-05) | 0.7, -0.25 (-0.28 to -0.22) | version 3" in text
    assert "| ✓ | fairness: region | 0.04 | limit 0.1 |" in text
    assert "| ✓ | better than the dummy model | +0.33 (+0.3 to +0.36) | which scores 0.5 |" in text
    assert "| ? | better than the linear model | +0.001 (-0.01 to +0.012) |" in text
    assert "- interval by DeLong at 95%, 99.9% sure to be better" in text
    assert "90 rows only the challenger gets right, 60 only the champion (McNemar p 0.0172)" in text
    assert "- calibration error 0.021 (champion 0.034), slope 0.9" in text
    assert "- worth per 1,000 rows: 1200 EUR, against the champion +200 (+100 to +300) EUR" in text


def test_clusters_rule_and_a_simpler_model_that_is_better_are_named() -> None:
    better = BaselineResult("linear", 0.86, -0.03, -0.05, -0.01, "worse")
    gate = replace(
        GATE, rule="not_worse", clusters=12, design_effect=4.0, baselines=(better,), simpler=("linear",)
    )
    text = "\n".join(parts_markdown(gate))
    assert "12 clusters of rows, design effect 4: 1,600 rows tell as much as 400 independent ones" in text
    assert "rule not_worse" in text and "linear scores 0.86, difference -0.03 (-0.05 to -0.01)" in text
    assert "clusters" not in "\n".join(parts_markdown(GATE))


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        ("ask", "a person decides"),
        ("undecided", "not enough evidence"),
        ("keep", "the champion stays"),
        ("refuse", "no judgement possible"),
    ],
)
def test_every_outcome_but_a_promotion_says_who_serves_or_decides(outcome: str, words: str) -> None:
    gate = replace(GATE, outcome=outcome)
    assert words in comparison_markdown(make_spec(), Compared(gate)).splitlines()[0]


def test_rows_that_would_tell_are_named_only_where_the_evidence_was_not_enough() -> None:
    short = replace(GATE, outcome="undecided", needed_rows=12_345)
    assert "about 12,345 rows would tell" in "\n".join(parts_markdown(short))
    assert "would tell" not in "\n".join(parts_markdown(replace(short, outcome="promote")))


def test_what_is_not_known_is_left_out_and_never_shown_as_nan() -> None:
    bare = GateDecision("refuse", ("no rows",), NAN, NAN, NAN, NAN, NAN, 0)
    assert parts_markdown(bare) == []
    partly = replace(
        GATE,
        p_better=NAN,
        calibration=CalibrationResult(NAN, NAN),
        value=ValueResult("", NAN, NAN, NAN, NAN, NAN),
        anchor=AnchorResult("undecided", 12, NAN, NAN, None, NAN, NAN, NAN, 0.01),
    )
    text = "\n".join(parts_markdown(partly))
    assert "nan" not in text.lower().replace("not enough", "")
    assert "| ? | trusted rows (12) | –, – | no version with –" in text

from __future__ import annotations

import argparse
import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import tasks.evaluate
from flows.retrain import retrain
from tasks.cli import run_flow
from tasks.core.errors import SpecError, WorkflowError
from tasks.core.evaluation.evidence import GateEvidence
from tasks.core.evaluation.gate import decide_promotion
from tasks.core.evaluation.verdicts import GateDecision
from tasks.core.planted import TRUTHS, Knowledge, compared_rows, planted_spec, taught_rows
from tasks.core.spec import ModelSpec
from tasks.core.spec_gate import Gate
from tasks.evaluating.seen import Unseen
from tasks.selftest import SelfTest, Trial, run_self_test, self_test
from tests.make import make_spec, spec_block

RIDGE = {"class": "sklearn.linear_model.Ridge"}
WORDS = {"categorical": ["plan", "region"]}
HARSH = {
    "slices": ["region", "tenure"],
    "weight": "spend",
    "floor": 0.97,
    "margin": 0.2,
    "confidence": 0.999,
    "min_rows": 4000,
    "max_disagreement": 0.05,
    "max_label_shift": 0.0,
    "on_doubt": "keep",
}
STRANGE = {"fairness": {"columns": ["region"], "max_gap": 0.0}, "value": {"outcomes": {"a>b": 1}}}
ACCURACY = make_spec(metric="accuracy", gate={"rule": "better"})
OUTCOMES = {
    "a better challenger": {"promote"},
    "the same two, swapped": {"keep"},
    "an equal challenger": {"keep", "undecided"},
    "a worse challenger": {"keep"},
    "the same version twice": {"refuse"},
    "a damaged champion": {"refuse"},
    "a champion trained later than the rows": {"refuse"},
    "a champion trained on rows with their keys": {"refuse"},
    "a first version": {"promote"},
    "a first version that only guesses": {"keep", "undecided", "refuse"},
}


@pytest.mark.parametrize(
    "over",
    [
        {},
        {"metric": "f1", "label": {"column": "churned", "positive": "yes"}},
        {"metric": "neg_log_loss", "label": {"column": "churned", "positive": False}, "gate": STRANGE},
        {"metric": "balanced_accuracy", "features": WORDS, "contract": {}},
        {"gate": HARSH},
        {"task": "regression", "metric": "neg_root_mean_squared_error", "estimator": RIDGE},
        {"task": "regression", "metric": "r2", "estimator": RIDGE, "gate": {"floor": 0.999999, "margin": 5}},
    ],
    ids=["auc", "text labels", "log loss", "categories only", "harsh gate", "rmse", "high floor"],
)
def test_the_gate_of_a_spec_judges_every_planted_challenger_rightly(over: dict[str, Any]) -> None:
    found = self_test(make_spec(**{**over, "gate": {**over.get("gate", {}), "rule": "better"}}))
    assert found.ok, found.table()
    assert {trial.name: trial.outcome in OUTCOMES[trial.name] for trial in found.trials} == dict.fromkeys(
        OUTCOMES, True
    )
    reasons = {trial.name: trial.reason for trial in found.trials}
    assert "same version" in reasons["the same version twice"]
    assert "cannot be loaded" in reasons["a damaged champion"]
    assert "up to when the champion has learnt" in reasons["a champion trained later than the rows"]
    assert "their keys" in reasons["a champion trained on rows with their keys"]
    assert found.rows >= 2000


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc"])
@pytest.mark.parametrize(
    ("rule", "equal"), [("not_worse", {"promote"}), ("ahead", {"keep"}), ("better", {"keep", "undecided"})]
)
def test_what_becomes_of_an_equal_challenger_depends_on_the_rule_and_nothing_else_does(
    metric: str, rule: str, equal: set[str]
) -> None:
    tested = self_test(make_spec(metric=metric, gate={"rule": rule}))
    assert tested.ok, tested.table()
    for trial in tested.trials:
        allowed = equal if trial.name == "an equal challenger" else OUTCOMES[trial.name]
        assert trial.outcome in allowed or "only guesses" in trial.name, tested.table()


# A gate that is broken on purpose is found out, and where.


def always(outcome: Any) -> Any:
    return lambda evidence, gate: replace(decide_promotion(evidence, gate), outcome=outcome)


def ninety_nine_percent(evidence: GateEvidence, gate: Gate) -> GateDecision:
    """Promote what scores at least 99 % of the champion, as is often done."""
    found = decide_promotion(evidence, gate)
    if found.outcome not in ("keep", "undecided") or evidence.champion is None:
        return found
    is_near = found.challenger_score >= 0.99 * found.champion_score
    return replace(found, outcome="promote" if is_near else "keep")


def mixed_up(evidence: GateEvidence, gate: Gate) -> GateDecision:
    if evidence.champion is None:
        return decide_promotion(evidence, gate)
    sides = replace(evidence, challenger=evidence.champion, champion=evidence.challenger)
    return decide_promotion(sides, gate)


def forgetful(evidence: GateEvidence, gate: Gate) -> GateDecision:
    """Take a champion that gave no answers for none at all."""
    return decide_promotion(replace(evidence, trouble=""), gate)


@pytest.mark.parametrize(
    ("broken", "wrong"),
    [
        (always("promote"), set(OUTCOMES) - {"a better challenger", "a first version"}),
        (always("refuse"), {"a better challenger", "a worse challenger", "a first version"}),
        (ninety_nine_percent, {"an equal challenger"}),
        (mixed_up, {"a better challenger", "the same two, swapped", "a worse challenger"}),
        (forgetful, {"a damaged champion"}),
    ],
    ids=["always promotes", "always refuses", "99 percent", "sides mixed up", "error forgotten"],
)
def test_a_broken_gate_is_found_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], broken: Any, wrong: set[str]
) -> None:
    monkeypatch.setattr(tasks.evaluate, "decide_promotion", broken)
    with pytest.raises(WorkflowError, match="promote nothing by this gate") as caught:
        run_self_test(ACCURACY, argparse.Namespace())
    told = capsys.readouterr().out
    found = {re.split("  +", row)[1] for row in told.splitlines() if row.startswith("WRONG")}
    assert wrong <= found, told
    assert f"{len(found)} of 10 planted comparisons" in caught.value.found


def test_a_comparison_on_rows_that_the_champion_has_seen_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    everything = lambda spec, holdout, *_: Unseen(np.ones(len(holdout), dtype=bool))  # noqa: E731
    monkeypatch.setattr(tasks.evaluate, "unseen", everything)
    wrong = [trial.name for trial in self_test(ACCURACY).trials if not trial.ok]
    assert wrong == ["a champion trained on rows with their keys"]


# The command.


def test_the_command_prints_a_table_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVERGREEN_STORE", "postgresql+psycopg://nobody@127.0.0.1:9/none")
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    block = {"definitions": {"models": {"churn": spec_block(metric="accuracy", gate={"rule": "better"})}}}
    (tmp_path / "models.yaml").write_text(yaml.safe_dump(block))
    words = ["--model", "churn", "--config", "models.yaml", "--gate-self-test"]
    assert run_flow(retrain, words, gate_self_test=run_self_test) == 0
    told = capsys.readouterr().out.splitlines()
    rows = [row for row in told if row.startswith("ok ")]
    assert len(rows) == 10
    said = [row.index("gate said") for row in told if "gate said" in row]
    assert {row[said[0]] for row in rows} <= set("pkur")  # aligned: each outcome begins below its head
    assert "2000 made-up rows, judged on accuracy" in told[-1]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["models.yaml", "scratch"]


def test_the_command_ends_with_code_2_and_one_line_when_the_gate_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    bad = Trial("an equal challenger", ("keep",), "promote", "better", ok=False)
    monkeypatch.setattr("tasks.selftest.self_test", lambda _: SelfTest("churn", "f1", 9, 1.0, (bad,)))
    block = {"definitions": {"models": {"churn": spec_block()}}}
    (tmp_path / "models.yaml").write_text(yaml.safe_dump(block))
    words = ["--model", "churn", "--config", "models.yaml", "--gate-self-test"]
    assert run_flow(retrain, words, gate_self_test=run_self_test) == 2
    assert capsys.readouterr().err.startswith(
        "WorkflowError: [churn] found a gate that judged 1 of 1 planted"
    )


def test_a_metric_that_says_nothing_of_two_classes_is_named() -> None:
    with pytest.raises(SpecError, match="metric=accuracy"):
        self_test(make_spec(metric="top_k_accuracy"))


# What is planted.


def test_made_rows_have_every_column_of_the_spec_and_the_same_seed_makes_the_same_rows() -> None:
    source = {
        "url": "sqlite:///x.db",
        "table": "t",
        "key": "k",
        "timestamp": "at",
        "updated": "u",
        "group": "g",
    }
    spec = planted_spec(make_spec(source=source, gate={"weight": "w", "slices": ["market"]}))
    made = [compared_rows(spec, TRUTHS[0], np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert list(made[0].columns) == spec.columns
    assert made[0]["k"].is_unique
    assert made[0]["at"].is_monotonic_increasing
    assert made[0]["market"].nunique() == 2
    assert not made[0].isna().any().any()
    assert made[0].equals(made[1])
    assert not made[0].equals(made[2])


@pytest.mark.parametrize(("pairs", "share"), [((), 0.0), ((0,), 0.25), ((1,), 0.25), ((0, 2), 0.5)])
def test_a_planted_classifier_is_taught_the_wrong_class_on_just_its_levels(
    pairs: tuple[int, ...], share: float
) -> None:
    rows, taught = taught_rows(ACCURACY, TRUTHS[0], Knowledge(pairs), np.random.default_rng(0))
    assert (taught != rows["churned"]).mean() == share
    assert set(rows["churned"].value_counts(normalize=True)) == {0.5}


def test_the_tested_spec_keeps_the_gates_own_numbers() -> None:
    spec: ModelSpec = make_spec(gate={**HARSH, "anchor": {"rows": 5000}})
    tested = planted_spec(spec)
    kept = ("margin", "confidence", "floor", "slices", "weight", "on_doubt", "max_disagreement", "min_rows")
    assert {name: getattr(tested.gate, name) for name in kept} == {
        name: getattr(spec.gate, name) for name in kept
    }
    assert (tested.metric, tested.label, tested.features) == (spec.metric, spec.label, spec.features)
    assert tested.gate.anchor.rows == 0

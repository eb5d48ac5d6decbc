"""Artifacts that say on the run page what was found, decided and done."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL, temporary_settings

from tasks import publish, reports
from tasks.core.drift.profile import build_reference, profile_frame
from tasks.core.drift.shape import shapes_of
from tasks.core.drift.verdict import judge
from tasks.core.evaluation.performance import PerformanceVerdict
from tasks.core.evaluation.verdicts import GateDecision
from tasks.core.policy.decision import Evidence, decide
from tasks.pages import note
from tests.make import make_frame, make_spec

START = datetime(2025, 12, 22, tzinfo=UTC)
API = "http://server:4200/api"


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """Artifacts that would have been sent to the Prefect API."""
    sent: list[dict[str, str]] = []
    monkeypatch.setattr(note, "create_markdown_artifact", lambda **artifact: sent.append(artifact))
    return sent


@dataclass(frozen=True)
class Compared:
    decision: GateDecision
    metrics: dict[str, float]
    champion_metrics: dict[str, float] = field(default_factory=dict)


def test_a_comparison_shows_both_versions_and_a_dash_where_there_is_none(
    published: list[dict[str, str]],
) -> None:
    nan = float("nan")
    gate = GateDecision("promote", ("better than a guess by 0.3",), 0.8123, nan, 0.3, 0.25, 0.35, 1600)
    spec = make_spec(name="Churn_EU.v2")
    assert publish.publish_comparison.fn(spec, Compared(gate, {"accuracy": 0.7})) == "churn-eu-v2-comparison"
    text = published[0]["markdown"]
    assert "| roc_auc | 0.8123 | – |" in text
    assert "| accuracy | 0.7 | – |" in text
    assert "0.3 (0.25 to 0.35) on 1,600 rows" in text
    assert "nan" not in text


def test_a_drift_table_names_what_moved_first(published: list[dict[str, str]]) -> None:
    spec, frame = make_spec(), make_frame(2000)
    reference = build_reference(frame, spec)
    moved = make_frame(2000, seed=1).assign(spend=lambda f: f["spend"] * 3)
    verdict = judge(reference, profile_frame(moved, reference), spec)
    publish.publish_drift.fn(spec, verdict, report="s3://bucket/reports/churn/drift/x.html")
    assert "`s3://bucket/reports/churn/drift/x.html`" in published[0]["markdown"]
    rows = [line for line in published[0]["markdown"].splitlines() if line.startswith("| ")]
    assert rows[2].startswith("| spend |")
    assert "| drift |" in rows[2]
    assert published[0]["key"] == "churn-drift"


def test_a_decision_record_holds_reasons_id_and_evidence(published: list[dict[str, str]]) -> None:
    spec = make_spec()
    decision = decide(Evidence(START, data_ok=False, data_reason="x|y ``` is gone"), spec)
    publish.publish_decision.fn(spec, decision)
    text = published[0]["markdown"]
    assert "BLOCK (data)" in text
    assert "x\\|y" in text
    assert decision.id in text
    assert text.count("```") == 2, "a fence in a reason must not end ours"
    evidence = json.loads(text.split("```json\n")[1].split("```")[0])
    assert evidence["data_ok"] is False


@dataclass(frozen=True)
class Ended:
    action: str = "kept"
    attempt: str = "train-decay-1"

    def sentence(self) -> str:
        return "kept version 3: not better than the champion"


def test_the_end_of_an_attempt_is_published_under_the_same_key(published: list[dict[str, str]]) -> None:
    assert publish.publish_decision.fn(make_spec(), Ended()) == "churn-decision"
    assert "kept version 3: not better than the champion" in published[0]["markdown"]
    assert "train-decay-1" in published[0]["markdown"]


def test_performance_without_labels_shows_dashes_and_the_reason(published: list[dict[str, str]]) -> None:
    nan = float("nan")
    verdict = PerformanceVerdict("undecided", "no labels yet", nan, nan, nan, 0.8, 0.78, 0)
    publish.publish_performance.fn(make_spec(), verdict)
    assert "no labels yet" in published[0]["markdown"]
    assert "| realised roc\\_auc | – |" in published[0]["markdown"].replace("roc_auc", "roc\\_auc")
    assert "nan" not in published[0]["markdown"]


def test_the_features_that_moved_are_drawn_and_every_measure_is_folded_below(
    published: list[dict[str, str]],
) -> None:
    spec, frame = make_spec(), make_frame(2000)
    reference = build_reference(frame, spec)
    moved = make_frame(2000, seed=1).assign(spend=lambda f: f["spend"] * 3)
    profile = profile_frame(moved, reference)
    verdict = judge(reference, profile, spec)
    verdict = replace(verdict, shapes=shapes_of(reference, profile, verdict))
    publish.publish_drift.fn(spec, verdict)
    first, folded = published[0]["markdown"].split("<details>")
    assert "### spend" in first
    assert first.count("data:image/svg+xml;base64,") == 1, "only what moved is drawn"
    assert "| tenure | ok |" in first
    assert folded.count("| tenure |") > 1


def asked(**over: object) -> SimpleNamespace:
    return SimpleNamespace(**{"outcome": "promoted", "run_id": None, "link": None, **over})


@pytest.mark.parametrize(
    ("launched", "shown"),
    [
        (asked(run_id="r-1"), "[The retraining it asked for](/runs/flow-run/r-1): **promoted**."),
        (
            asked(outcome="asked", link="/events/event/7"),
            "(/events/event/7): **asked**. It is among the runs",
        ),
        (asked(outcome="busy"), "The retraining it asked for: **busy**."),
    ],
)
def test_a_decision_leads_to_the_retraining_it_caused(
    published: list[dict[str, str]], launched: SimpleNamespace, shown: str
) -> None:
    decision = decide(Evidence(START, has_champion=False), make_spec())
    with temporary_settings({PREFECT_API_URL: API, PREFECT_UI_URL: None}):
        publish.publish_decision.fn(make_spec(), decision, launched)
    assert shown in published[0]["markdown"]


def test_a_retraining_leads_back_to_the_check_that_asked_for_it(published: list[dict[str, str]]) -> None:
    because = {
        "caused_by": "c-1", "decided_at": "2026-01-05T10:00:00+00:00", "cause": "decay",
        "reasons": ["roc_auc 0.61 is below 0.70"],
    }  # fmt: skip
    with temporary_settings({PREFECT_API_URL: API, PREFECT_UI_URL: None}):
        publish.publish_decision.fn(make_spec(), Ended(), because=because)
    text = published[0]["markdown"]
    assert "Asked for by [this check](/runs/flow-run/c-1) on 2026-01-05 10:00 UTC: decay." in text
    assert "- roc_auc 0.61 is below 0.70" in text


def test_a_retraining_nobody_decided_on_leads_nowhere(published: list[dict[str, str]]) -> None:
    because: dict[str, object] = {"caused_by": None, "decided_at": None, "cause": "manual", "reasons": []}
    publish.publish_decision.fn(make_spec(), Ended(), because=because)
    assert "Asked for by a person or a schedule: manual." in published[0]["markdown"]
    assert "](" not in published[0]["markdown"]


@pytest.mark.parametrize(
    ("ui", "page"),
    [
        (None, "/runs/flow-run/7"),
        ("http://server:4200", "/runs/flow-run/7"),
        ("https://prefect.example.org/ui", "https://prefect.example.org/ui/runs/flow-run/7"),
    ],
)
def test_a_run_is_pointed_at_whole_only_where_somebody_said_how_people_reach_the_page(
    ui: str | None, page: str
) -> None:
    with temporary_settings({PREFECT_API_URL: API, PREFECT_UI_URL: ui}):
        assert publish.run_page("7") == page
        assert publish.run_page(None) == ""


@pytest.mark.parametrize(
    "made",
    [
        publish.publish_validation,
        publish.publish_comparison,
        publish.publish_drift,
        publish.publish_performance,
        publish.publish_decision,
        reports.publish_drift_report,
        reports.publish_replay,
        reports.publish_backtest,
    ],
)
def test_every_task_states_its_retries_timeout_and_cache_policy(made: Task[..., str]) -> None:
    assert made.timeout_seconds
    assert made.cache_policy == NO_CACHE

"""Manual promotion from end to end: a challenger waits, a person looks and rules, the loop goes on."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import flows.promote
import flows.retrain
import flows.rollback
import flows.score
import flows.scorecard
from tasks.approve import expire_approvals
from tasks.core.errors import PromotionRefused, SpecError
from tasks.core.spec import ModelSpec
from tasks.run_state import outcome_of
from tasks.store import alerts, ledger
from tasks.store.engine import open_store
from tasks.waiting import as_state
from tests.loop.plainly import plainly
from tests.make import START

DAY = timedelta(days=1)
NOW = START + 30 * DAY
ANN = {"actor": "ann", "reason": "checked with sales"}


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, Any]]:
    """The artifacts of flows that run as plain functions in this test's folder."""
    found: list[tuple[str, Any]] = []
    plainly(monkeypatch, artifacts=found)
    monkeypatch.setenv("EVERGREEN_STATE_DIR", str(tmp_path / "state"))
    return found


@pytest.fixture
def manual(rows_spec: ModelSpec) -> ModelSpec:
    return ModelSpec.model_validate({**rows_spec.model_dump(mode="json"), "gate": {"promotion": "manual"}})


def outcomes(spec: ModelSpec) -> list[tuple[str, str, int | None]]:
    rows = ledger.history(open_store(None), spec.name)
    return [(row.decision_id, row.action, row.to_version) for row in rows]


def open_incidents(spec: ModelSpec) -> list[str]:
    return [one.cause for one in alerts.history(open_store(None), spec.name, open_only=True)]


def aliases(spec: ModelSpec) -> dict[str, int]:
    with sqlite3.connect(Path(spec.source.url).parent / "state" / "mlflow.db") as store:
        return dict(store.execute("select alias, version from registered_model_aliases").fetchall())


def test_a_challenger_waits_until_a_person_has_looked_and_approved(
    pages: list[tuple[str, Any]], manual: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A deployer that cannot be reached delays nothing: its message waits.
    monkeypatch.setenv("EVERGREEN_DEPLOYER", "http://127.0.0.1:9/promotions")
    monkeypatch.setenv("EVERGREEN_DEPLOYER_KEY", "k" * 32)
    flows.retrain.retrain(manual, as_of=NOW, decision_id="d")
    assert (open_incidents(manual), aliases(manual)) == (["approval v1"], {"challenger": 1})

    shelf = flows.promote.promote(manual, as_of=NOW + DAY)
    assert (outcome_of(as_state(shelf)), shelf.chosen, shelf.serving) == ("Waiting", 1, None)
    key, page = pages[-1]
    assert key == "churn-approval"
    assert "| higher is better | version 1 | a guess (no champion then) |" in page
    assert "The gate said **promote**: better than a guess" in page
    assert "--version 1 --actor YOU --reason WHY --verdict approve" in page
    assert (outcomes(manual), aliases(manual)) == ([("d", "waiting", 1)], {"challenger": 1})

    with pytest.raises(SpecError, match=r"version: nothing.*waiting: 1.*--version 1"):
        flows.promote.promote(manual, "approve", as_of=NOW + DAY, **ANN)
    with pytest.raises(PromotionRefused, match="as_of"):
        flows.promote.promote(manual, "approve", 1, as_of=NOW - DAY, **ANN)
    assert (outcomes(manual), aliases(manual)) == ([("d", "waiting", 1)], {"challenger": 1})
    ruling = flows.promote.promote(manual, "approve", 1, as_of=NOW + DAY, **ANN)
    assert (ruling.action, ruling.version, ruling.left) == ("promoted", 1, ())
    assert outcomes(manual) == [("d", "waiting", 1), ("approval-v1", "promoted", 1)]
    assert (open_incidents(manual), aliases(manual)) == ([], {"champion": 1})
    with sqlite3.connect(Path(manual.source.url).parent / "state" / "store.db") as store:
        assert store.execute("select topic, done_at from deliveries").fetchall() == [
            ("promotion:churn:approval-v1", None)
        ]
    assert flows.score.score(manual, as_of=START + 28 * DAY).version == 1


def test_a_rejected_challenger_never_serves_and_the_incident_is_over(
    pages: list[tuple[str, Any]], manual: ModelSpec
) -> None:
    flows.retrain.retrain(manual, as_of=NOW, decision_id="d")
    ruling = flows.promote.promote(manual, "reject", 1, actor="bob", reason="not fair enough")
    # Without as_of it is now, months later: but nobody else has ruled, so bob's word counts.
    assert (ruling.action, ruling.actor, ruling.why) == ("rejected", "bob", "not fair enough")
    assert (open_incidents(manual), aliases(manual)) == ([], {})
    assert outcome_of(as_state(flows.promote.promote(manual, as_of=NOW))) == "Nothing waits"
    with pytest.raises(SpecError, match="actor: nothing"):
        flows.promote.promote(manual, "approve", 1, reason="x")


def test_silence_ends_the_waiting_and_only_then(pages: list[tuple[str, Any]], manual: ModelSpec) -> None:
    flows.retrain.retrain(manual, as_of=NOW, decision_id="d")
    assert expire_approvals.fn(manual, NOW + 2 * DAY).left == (1,)
    assert expire_approvals.fn(manual, NOW + 3 * DAY).versions == (1,)
    assert outcomes(manual)[-1] == ("approval-v1", "rejected", 1)
    with pytest.raises(SpecError, match="nothing waits"):
        flows.promote.promote(manual, "approve", as_of=NOW + 4 * DAY, **ANN)
    late = flows.promote.promote(manual, "reject", 1, as_of=NOW + 4 * DAY, **ANN)
    assert (late.action, late.actor, late.is_news) == ("rejected", "silence", False)


def test_ruling_on_one_version_ends_its_own_incident_and_no_other(
    pages: list[tuple[str, Any]], manual: ModelSpec
) -> None:
    flows.retrain.retrain(manual, as_of=NOW, decision_id="d")
    flows.retrain.retrain(manual, as_of=NOW + DAY, decision_id="e", force=True)
    assert outcomes(manual) == [("d", "waiting", 1), ("e", "waiting", 2)]
    assert set(open_incidents(manual)) == {"approval v1", "approval v2"}
    ruling = flows.promote.promote(manual, "reject", 1, as_of=NOW + DAY, **ANN)
    assert (ruling.left, open_incidents(manual)) == ((2,), ["approval v2"])


def test_from_a_first_version_through_approval_and_rollback_to_the_scorecard(
    pages: list[tuple[str, Any]], rows_spec: ModelSpec
) -> None:
    flows.retrain.retrain(rows_spec, as_of=NOW, decision_id="first")
    flows.retrain.retrain(rows_spec, as_of=NOW + DAY, decision_id="second", force=True)
    assert outcomes(rows_spec)[-1] == ("second", "kept", 2)
    flows.promote.promote(rows_spec, "approve", 2, as_of=NOW + 2 * DAY, **ANN)
    assert aliases(rows_spec) == {"champion": 2, "previous": 1}

    before = outcomes(rows_spec)
    dry = flows.rollback.rollback(rows_spec, as_of=NOW + 3 * DAY)
    assert (dry.action, dry.from_version, dry.version) == ("dry run", 2, 1)
    assert (outcomes(rows_spec), aliases(rows_spec)) == (before, {"champion": 2, "previous": 1})
    said = {"actor": "bob", "reason": "complaints"}
    done = flows.rollback.rollback(rows_spec, dry_run=False, as_of=NOW + 3 * DAY, **said)
    assert (done.action, done.version) == ("rolled back", 1)
    assert aliases(rows_spec) == {"champion": 1, "previous": 2}
    assert flows.score.score(rows_spec, as_of=START + 28 * DAY).version == 1

    card = flows.scorecard.scorecard(rows_spec, as_of=NOW + 14 * DAY)
    assert dict(card.actions) == {"promoted": 2, "kept": 1, "rolled_back": 1}
    assert card.value("deployments") == pytest.approx(7 * 2 / 14)
    assert (card.value("automated"), card.value("rolled_back"), card.value("futile")) == (0.5, 0.5, 0.0)
    assert card.value("freshness") == 2.5 * 86_400  # two days by the gate, three by hand
    key, text = pages[-1]
    assert key == "churn-scorecard"
    assert "| Promoted by the gate alone | 50 % | 2 | of all promotions |" in text
    state = Path(rows_spec.source.url).parent / "state"
    html = (state / "scorecard" / "churn" / "scorecard.html").read_text()
    assert "Promoted by the gate alone" in html
    assert "https://" not in html.partition("<script>")[0]
    assert (state / "artifacts" / "reports" / "churn" / "scorecard.html").read_text() == html
    with pytest.raises(SpecError, match="since"):
        flows.scorecard.scorecard(rows_spec, since=NOW, as_of=NOW)


@pytest.mark.engine
def test_runs_are_named_after_what_was_asked_for(
    prefect_api: None, manual: ModelSpec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from prefect.client.orchestration import get_client

    monkeypatch.setenv("EVERGREEN_STATE_DIR", str(tmp_path / "state"))
    ask: Callable[..., Any] = flows.promote.promote
    states = [
        flows.retrain.retrain(manual, as_of=NOW, decision_id="d", return_state=True),
        ask(manual, as_of=NOW, return_state=True),
        ask(manual, "approve", 1, as_of=NOW, **ANN, return_state=True),
        flows.rollback.rollback(manual, as_of=NOW, return_state=True),
        flows.scorecard.scorecard(manual, as_of=NOW + DAY, return_state=True),
    ]
    outcomes = ["Waiting", "Waiting", "Promoted", "Dry run", "Scorecard"]
    assert [(state.name, outcome_of(state)) for state in states] == [("Completed", end) for end in outcomes]
    with get_client(sync_client=True) as client:
        names = [client.read_flow_run(state.state_details.flow_run_id).name for state in states[1:]]
        written = client.read_artifacts()
    assert names == [
        "churn: look the newest · Waiting",
        "churn: approve version 1 · Promoted",
        "churn: rollback to the one before (dry) · Dry run",
        "churn: scorecard · Scorecard",
    ]
    assert {"churn-approval", "churn-decision", "churn-scorecard"} <= {one.key for one in written}

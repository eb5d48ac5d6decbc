"""What an earlier run left half done: ended once, as it was meant, and never by a dry run."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import flows.monitor
import flows.retrain
from tasks.clock import window_edge
from tasks.core.errors import RegistryError
from tasks.core.policy.decision import Decision
from tasks.core.spec import ModelSpec
from tasks.reconcile import relaunch_unanswered
from tasks.settings import Settings
from tasks.store import alerts, anchors, catalog, ledger, registry
from tasks.store.engine import open_store
from tests.make import START

DAY = timedelta(days=1)
AS_OF = START + 30 * DAY
Retrain = Callable[..., Any]


def dying(*args: object, **kwargs: object) -> None:
    raise KeyboardInterrupt


def interrupted(retrain: Retrain, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(flows.retrain, step, dying)
        with pytest.raises(KeyboardInterrupt):
            retrain(spec, as_of=AS_OF, decision_id="d")


def outcomes() -> list[tuple[str, str, int | None]]:
    return [
        (row.decision_id, row.action, row.to_version) for row in ledger.history(open_store(None), "churn")
    ]


def incidents(*, open_only: bool = True) -> list[str]:
    return [one.cause for one in alerts.history(open_store(None), "churn", open_only=open_only)]


def decided(name: str, at: datetime, *, written: datetime | None = None) -> str:
    decision = Decision("TRAIN", "decay", ("score fell",), name)
    now = written or datetime.now(UTC)
    ledger.record_decision(open_store(None), decision, model="churn", at=at, run_id="check", now=now)
    return name


def test_a_dry_run_ends_nothing_that_another_run_left_half_done(
    retrain: Retrain, rows_spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(retrain, rows_spec, monkeypatch, "finish")
    assert retrain(rows_spec, as_of=AS_OF, decision_id="d", dry_run=True).action == "dry run"
    assert outcomes() == []
    assert registry.find_champion("churn", settings=Settings()) is None
    assert retrain(rows_spec, as_of=AS_OF, decision_id="d").action == "promoted"
    assert outcomes() == [("d", "promoted", 1)]


def test_a_resumed_attempt_ends_the_incident_of_its_failure(
    retrain: Retrain, rows_spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*args: object, **kwargs: object) -> None:
        raise ValueError("jane@example.org")

    with monkeypatch.context() as patch:
        patch.setattr(flows.retrain, "finish", failing)
        with pytest.raises(ValueError, match="jane"):
            retrain(rows_spec, as_of=AS_OF, decision_id="d")
    (told,) = alerts.history(open_store(None), "churn", open_only=True)
    assert (told.cause, "ValueError" in told.message, "jane" in told.message) == ("retraining", True, False)
    assert retrain(rows_spec, as_of=AS_OF, decision_id="d").action == "promoted"
    assert incidents() == []


def test_an_attempt_that_ended_without_a_version_is_not_made_again(
    retrain: Retrain, rows_spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    retrain(rows_spec, as_of=AS_OF, decision_id="first")
    with monkeypatch.context() as patch:
        patch.setattr(flows.retrain, "publish_decision", dying)
        with pytest.raises(KeyboardInterrupt):
            retrain(rows_spec, as_of=AS_OF + DAY, decision_id="d")
    assert outcomes()[-1] == ("d", "skipped", None)
    again = retrain(rows_spec, as_of=AS_OF + DAY, decision_id="d", force=True)
    assert (again.action, again.why) == ("skipped", "this decision was already carried out")
    assert outcomes() == [("first", "promoted", 1), ("d", "skipped", None)]


def test_what_a_person_has_ruled_on_does_not_wait_again(
    retrain: Retrain, rows_spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = {**rows_spec.gate.model_dump(), "promotion": "manual"}
    manual = ModelSpec.model_validate({**rows_spec.model_dump(mode="json"), "gate": gate})
    interrupted(retrain, manual, monkeypatch, "commit_watermark")
    assert outcomes() == [("d", "waiting", 1)]
    (cause,) = incidents()
    flows.retrain.settle(manual, cause, as_of=AS_OF)
    assert retrain(manual, as_of=AS_OF, decision_id="d").action == "waiting"
    assert incidents() == []


def test_a_decision_is_moot_once_the_model_was_trained_after_it(
    retrain: Retrain, rows_spec: ModelSpec
) -> None:
    now = datetime.now(UTC)
    early = decided("early", now - 2 * DAY, written=now - 2 * DAY)
    ledger.record(
        open_store(None), model="churn", decision_id="late", action="kept", from_version=None,
        to_version=9, actor="retrain", reason="not better", at=now - DAY,
    )  # fmt: skip
    ended = retrain(rows_spec, decision_id=early, reason="event")
    assert (ended.action, ended.why) == ("skipped", "overtaken by late, a retraining after it was decided")
    assert outcomes() == [("late", "kept", 9)]
    told = relaunch_unanswered.fn(rows_spec, settings=Settings(launch="deployment"))
    assert (told.launched, told.stuck) == ((), ())


def test_a_retraining_counts_from_when_it_was_carried_out_not_from_its_decision(
    retrain: Retrain, rows_spec: ModelSpec
) -> None:
    written = datetime.now(UTC) - timedelta(hours=10)
    decision = decided("d", AS_OF, written=written)  # a check that acted as of another time
    assert retrain(rows_spec, decision_id=decision, reason="event").action == "promoted"
    (row,) = ledger.history(open_store(None), "churn")
    assert timedelta(hours=10) <= row.at - AS_OF < timedelta(hours=10, minutes=5)


def test_windows_of_runs_that_start_late_join() -> None:
    day, hour = window_edge(None, 14 * DAY), window_edge(None, timedelta(hours=1))
    assert (day.hour, day.minute, day.second, day.microsecond) == (0, 0, 0, 0)
    assert (hour.minute, hour.second, hour.microsecond) == (0, 0, 0)
    assert timedelta(0) <= datetime.now(UTC) - day < DAY
    assert window_edge(AS_OF + timedelta(minutes=7), DAY) == AS_OF + timedelta(minutes=7)


def test_a_champion_moved_by_a_person_during_the_training_is_not_moved_over(
    retrain: Retrain, rows_spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = {**rows_spec.gate.model_dump(), "promotion": "manual"}
    manual = ModelSpec.model_validate({**rows_spec.model_dump(mode="json"), "gate": gate})
    assert retrain(manual, as_of=AS_OF, decision_id="waits").to_version == 1
    real = flows.retrain.still_ours

    def meanwhile(spec: ModelSpec, attempt: Any) -> None:
        real(spec, attempt)
        version = registry.find_version("churn", 1, settings=Settings())
        flows.retrain.move_champion(
            spec, version, actor="jo", reason="trust it", decision_id="by-hand", as_of=AS_OF + DAY
        )

    monkeypatch.setattr(flows.retrain, "still_ours", meanwhile)
    ended = retrain(rows_spec, as_of=AS_OF + DAY, decision_id="d", force=True)
    assert (ended.action, ended.to_version) == ("refused", 2)
    champion = registry.find_champion("churn", settings=Settings())
    assert champion is not None
    assert champion.number == 1


def test_a_run_that_lost_its_claim_registers_nothing(
    retrain: Retrain, rows_spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = flows.retrain.profile_reference

    def robbed(*args: Any, **kwargs: Any) -> Any:
        with open_store(None).begin() as connection:
            connection.exec_driver_sql("update claims set owner = 'another'")
        return real(*args, **kwargs)

    monkeypatch.setattr(flows.retrain, "profile_reference", robbed)
    assert retrain(rows_spec, as_of=AS_OF, decision_id="d") is None  # the other run ends it: nothing is wrong
    assert outcomes() == []
    assert alerts.history(open_store(None), "churn") == []
    with pytest.raises(RegistryError):
        registry.find_version("churn", 1, settings=Settings())


def unnoted(retrain: Retrain, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave a version of which nothing is noted."""
    with monkeypatch.context() as patch:
        patch.setattr(catalog, "note_version", dying)
        with pytest.raises(KeyboardInterrupt):
            retrain(spec, as_of=AS_OF, decision_id="d")
    assert registry.find_version("churn", 1, settings=Settings()).number == 1
    assert catalog.all_facts(open_store(None), "churn") == []


def test_a_version_that_was_not_noted_is_noted_and_its_rows_become_the_anchor(
    retrain: Retrain, rows_spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = rows_spec.gate.model_copy(
        update={"refit": False}
    )  # a refit leaves the anchor's rows out instead
    rows_spec = rows_spec.model_copy(update={"gate": judged})
    unnoted(retrain, rows_spec, monkeypatch)
    assert retrain(rows_spec, as_of=AS_OF, decision_id="d").action == "promoted"
    (facts,) = catalog.all_facts(open_store(None), "churn")
    (anchor,) = anchors.history(open_store(None), "churn")
    assert (facts.number, facts.attempt, facts.anchor_sha256) == (1, "d", anchor.sha256)
    assert (anchor.version, anchor.actor) == (1, "retrain")
    assert anchor.window.start >= facts.cut


def test_a_version_whose_rows_are_gone_is_ended_without_an_anchor(
    retrain: Retrain, rows_spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    unnoted(retrain, rows_spec, monkeypatch)
    for kept in (Settings().root / "artifacts" / "snapshots").glob("*.parquet"):
        kept.unlink()
    assert retrain(rows_spec, as_of=AS_OF, decision_id="d").action == "promoted"
    assert len(catalog.all_facts(open_store(None), "churn")) == 1
    assert anchors.history(open_store(None), "churn") == []

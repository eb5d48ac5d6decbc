"""Decisions, promotions, checks, quarantine and alerts: told once, in order, and never rewritten."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tasks.core.errors import RegistryError
from tasks.core.policy.decision import Decision
from tasks.core.window import Window
from tasks.store import alerts, checks, ledger, predictions, quarantine, watermarks
from tasks.store.engine import writing
from tests.stores import BOTH, fresh_store

T0 = datetime(2026, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)
WEEK = Window(T0, T0 + 7 * DAY)


@pytest.fixture(params=BOTH)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    with fresh_store(request.param, request, tmp_path) as engine:
        yield engine


def decision(**over: Any) -> Decision:
    evidence = {"drift": ["ok", "drift"], "psi": float("nan"), "as_of": T0.isoformat()}
    return replace(Decision("TRAIN", "decay", ("too low", "twice"), "train-1", evidence=evidence), **over)


def promote(store: Engine, decision_id: str, to: int | None, at: datetime, **over: Any) -> ledger.LedgerRow:
    given = {"action": "promoted", "from_version": None, "actor": "gate", "reason": "better", **over}
    return ledger.record(store, model="churn", decision_id=decision_id, to_version=to, at=at, **given)


def check(store: Engine, window: Window, outcome: str = "ok", **over: Any) -> checks.Check:
    given = {"kind": "drift", "version": 1, "summary": {"rows": 10}, "run_id": "r1", "at": window.end, **over}
    return checks.record(store, model="churn", window=window, outcome=outcome, **given)


def test_the_ledger_tells_which_version_served_at_any_moment(store: Engine) -> None:
    promote(store, "d1", 1, T0)
    promote(store, "d2", 2, T0 + 2 * DAY)
    promote(store, "d3", 3, T0 + 3 * DAY, action="kept")
    promote(store, "d4", None, T0 + 3 * DAY, action="skipped")
    promote(store, "d5", 1, T0 + 4 * DAY, action="rolled_back", from_version=2)
    moments = [T0 - timedelta(microseconds=1), T0, T0 + DAY, T0 + 2 * DAY, T0 + 3.5 * DAY, T0 + 9 * DAY]
    assert [ledger.serving_at(store, "churn", moment) for moment in moments] == [None, 1, 1, 2, 2, 1]
    assert ledger.serving_at(store, "spend", T0 + DAY) is None


def test_of_two_promotions_at_one_moment_the_later_recorded_serves(store: Engine) -> None:
    promote(store, "d1", 1, T0)
    promote(store, "d2", 2, T0)
    assert ledger.serving_at(store, "churn", T0) == 2


def test_a_second_call_for_a_decision_returns_the_first_row(store: Engine) -> None:
    first = promote(store, "d1", 1, T0, evidence={"difference": 0.02, "low": float("nan")})
    again = promote(store, "d1", 1, T0 + DAY, reason="other words", from_version=1)
    assert again == first
    assert ledger.history(store, "churn") == [first]
    assert (first.at, first.evidence, first.cause) == (T0, {"difference": 0.02, "low": None}, "")


def test_a_decision_cannot_end_twice_in_different_ways(store: Engine) -> None:
    first = promote(store, "d1", 1, T0)
    for over in ({"action": "kept"}, {"to": 2}):
        with pytest.raises(RegistryError, match="d1 already in the ledger as promoted version 1"):
            promote(store, "d1", **{"to": 1, "at": T0, **over})
    with pytest.raises(RegistryError, match="ledger action 'vanished'"):
        promote(store, "d2", 1, T0, action="vanished")
    assert ledger.history(store, "churn") == [first]
    assert ledger.find(store, "churn", "d1") == first
    assert ledger.find(store, "churn", "d2") is None


def test_a_ledger_row_knows_the_cause_of_its_decision(store: Engine) -> None:
    ledger.record_decision(store, decision(), model="churn", at=T0)
    promote(store, "train-1", 1, T0)
    promote(store, "by hand", 2, T0)
    assert [row.cause for row in ledger.history(store, "churn")] == ["decay", ""]


def test_a_decision_checked_again_is_one_row_and_a_changed_one_a_revision(store: Engine) -> None:
    first = ledger.record_decision(store, decision(), model="churn", at=T0, run_id="r1")
    later = decision(evidence={**decision().evidence, "as_of": (T0 + DAY).isoformat()})
    assert ledger.record_decision(store, later, model="churn", at=T0 + DAY, run_id="r2") == first
    changed = ledger.record_decision(store, decision(escalate=True), model="churn", at=T0 + DAY)
    other = ledger.record_decision(store, decision(id="train-2"), model="churn", at=T0 + DAY)
    assert [row.revision for row in (first, changed, other)] == [1, 2, 1]
    assert ledger.decisions(store, "churn") == [first, changed, other]
    assert first.evidence == {"drift": ["ok", "drift"], "psi": None, "as_of": T0.isoformat()}
    assert (first.kind, first.cause, first.reasons) == ("TRAIN", "decay", ("too low", "twice"))


def test_a_decision_keeps_its_guards_and_window_and_may_be_a_mapping(store: Engine) -> None:
    row = ledger.record_decision(
        store, decision(kind="SKIP", guards=("cooldown",), window=WEEK), model="churn", at=T0
    )
    window = {"start": WEEK.start.isoformat(), "end": WEEK.end.isoformat()}
    assert (row.evidence["guards"], row.evidence["window"]) == (["cooldown"], window)
    mapping = {"id": "x", "kind": "BLOCK", "cause": "data", "reasons": ["gone"], "evidence": {}}
    assert ledger.record_decision(store, mapping, model="churn", at=T0).reasons == ("gone",)


def test_a_check_run_again_is_the_same_row_and_a_differing_one_a_revision(store: Engine) -> None:
    first = check(store, WEEK, summary={"psi": float("nan"), "rows": 3})
    assert check(store, WEEK, summary={"psi": None, "rows": 3}, run_id="r2") == first
    second = check(store, WEEK, "drift")
    assert (first.revision, second.revision, second.outcome) == (1, 2, "drift")
    assert checks.recent(store, "churn", "drift", 5, WEEK.end) == [second]
    back = check(store, WEEK, summary={"psi": None, "rows": 3})
    assert back.revision == 3
    with store.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM checks").scalar() == 3


def test_recent_checks_are_the_last_windows_that_have_ended_newest_last(store: Engine) -> None:
    days = list(WEEK.split(DAY))
    for day in reversed(days):
        check(store, day)
    check(store, days[0], kind="performance", outcome="warn")
    assert [item.window for item in checks.recent(store, "churn", "drift", 3, days[4].end)] == days[2:5]
    just_before = days[4].end - timedelta(microseconds=1)
    assert [item.window for item in checks.recent(store, "churn", "drift", 3, just_before)] == days[1:4]
    assert [item.outcome for item in checks.recent(store, "churn", "performance", 3, WEEK.end)] == ["warn"]
    assert checks.recent(store, "spend", "drift", 3, WEEK.end) == []


def test_one_incident_is_opened_once_until_it_is_resolved(store: Engine) -> None:
    given = {"model": "churn", "cause": "decay", "tier": "warning", "message": "score fell"}
    opened = [alerts.open_incident(store, **given, at=T0 + n * DAY)[1] for n in range(3)]
    assert opened == [True, False, False]
    assert alerts.open_incident(store, **{**given, "cause": "data"}, at=T0)[1]
    assert alerts.open_incident(store, **{**given, "model": "spend"}, at=T0)[1]
    assert alerts.end_incident(store, "churn", "decay", T0 + 3 * DAY)
    assert not alerts.end_incident(store, "churn", "decay", T0 + 4 * DAY)
    assert [item.cause for item in alerts.history(store, "churn", open_only=True)] == ["data"]
    assert alerts.open_incident(store, **given, at=T0 + 5 * DAY)[1]
    told = [item for item in alerts.history(store, "churn") if item.cause == "decay"]
    assert [(item.opened_at, item.resolved_at) for item in told] == [
        (T0, T0 + 3 * DAY),
        (T0 + 5 * DAY, None),
    ]


def test_a_quarantine_found_again_by_the_same_attempt_is_one_row(store: Engine) -> None:
    given = {"model": "churn", "attempt": "a1", "window": WEEK, "path": "quarantine/a1.parquet"}
    for _ in range(2):
        quarantine.record(store, **given, rows=3, reasons={"spend.ge": 2, "plan.isin": 1})
    quarantine.record(store, **given, rows=1, reasons={"spend.ge": 1})
    found = quarantine.history(store, "churn")
    assert [(item.rows, item.reasons) for item in found] == [
        (3, {"spend.ge": 2, "plan.isin": 1}),
        (1, {"spend.ge": 1}),
    ]
    assert found[0].window == WEEK


def test_two_commits_of_one_attempt_are_one_watermark(store: Engine) -> None:
    first = watermarks.commit(store, "churn", T0, ["a"], "attempt-1")
    assert watermarks.commit(store, "churn", T0 + DAY, ["a", "b"], "attempt-1") == first
    second = watermarks.commit(store, "churn", T0 + DAY, ["a", "b"], "attempt-2")
    assert watermarks.commit(store, "churn", T0, ["z"], "attempt-0") == second
    assert watermarks.get(store, "churn") == second == watermarks.Watermark(T0 + DAY, ["a", "b"])
    assert watermarks.get(store, "spend") is None


def _live(store: Engine) -> None:
    """Everything the loop ever does to history, re-runs and corrections included."""
    rows = pd.DataFrame(
        {"prediction_id": ["p"], "row_key": ["k"], "event_time": [pd.Timestamp(T0)], "prediction": [1]}
    ).assign(score=None)
    for label in (0, 1, 1):
        predictions.log(store, rows, model="churn", version=1, served_at=T0)
        frame = pd.DataFrame({"row_key": ["k"], "label": [label]})
        predictions.labels_record(store, "churn", frame, T0)
        ledger.record_decision(store, decision(escalate=bool(label)), model="churn", at=T0)
        promote(store, "d1", 1, T0)
        check(store, WEEK, str(label))
        watermarks.commit(store, "churn", T0, [], str(label))
        quarantine.record(
            store, model="churn", attempt="", window=WEEK, rows=1, reasons={"x": label}, path="x"
        )


def test_no_statement_of_ours_changes_or_deletes_history(store: Engine) -> None:
    issued: list[str] = []
    sa.event.listen(store, "before_cursor_execute", lambda *args: issued.append(args[2]))
    _live(store)
    wrote = {
        match.group(1) for text in issued if (match := re.match(r"\s*INSERT(?: OR \w+)? INTO (\w+)", text))
    }
    history = {"predictions", "labels", "checks", "decisions", "promotions", "watermarks", "quarantine"}
    assert wrote == {*history, "outbox"}  # which is a queue
    assert [text for text in issued if re.match(r"\s*(UPDATE|DELETE|REPLACE|TRUNCATE)", text)] == []


@pytest.mark.parametrize("table", ["decisions", "promotions", "labels"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET model = 'other'", "DELETE FROM {}"])
def test_the_database_itself_refuses_to_rewrite_history(store: Engine, table: str, statement: str) -> None:
    _live(store)
    with pytest.raises(sa.exc.DBAPIError, match=f"{table} is append-only"), writing(store) as connection:
        connection.exec_driver_sql(statement.format(table))

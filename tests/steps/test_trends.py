"""What drift checks leave in the store: a row per feature and window, kept with the check that said it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tasks.core.records.drift_rows import FeatureRow, feature_rows
from tasks.core.window import Window
from tasks.store import checks
from tasks.store.trends import feature_history, verdict_history
from tests.drifted import HOSTILE, START, checked, day, many
from tests.stores import BOTH, fresh_store


@pytest.fixture(params=BOTH)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    with fresh_store(request.param, request, tmp_path) as engine:
        yield engine


def row(feature: str = "spend", value: float | None = 0.125, outcome: str = "ok") -> FeatureRow:
    return FeatureRow(feature, outcome, "psi", value, 0.2, 1e-300, 1500, "small")


def check(
    store: Engine, window: Window, features: Sequence[FeatureRow] = (), outcome: str = "ok", version: int = 3
) -> checks.Check:
    summary = {
        "reason": f"said {outcome}",
        "drifted": ["spend"] if outcome == "drift" else [],
        "big": "x" * 999,
    }
    return checks.record(
        store, model="churn", kind="drift", window=window, version=version, outcome=outcome,
        summary=summary, features=features, at=window.end,
    )  # fmt: skip


def count(store: Engine, table: str = "feature_checks") -> int:
    with store.connect() as connection:
        return int(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() or 0)


def test_every_feature_of_a_check_comes_back_as_it_was_recorded(store: Engine) -> None:
    rows = feature_rows(checked(1.0))
    check(store, day(0), rows, "drift")
    found = feature_history(store, "churn", windows=5, before=day(0).end)
    assert sorted([one.row for one in found], key=lambda one: one.feature) == sorted(
        rows, key=lambda one: one.feature
    )
    assert {(one.window, one.version) for one in found} == {(day(0), 3)}


def test_a_check_run_again_with_the_same_rows_writes_nothing(store: Engine) -> None:
    first = check(store, day(0), [row(), row("plan")])
    assert check(store, day(0), [row("plan"), row()]) == first
    assert count(store) == 2
    assert count(store, "checks") == 1


def test_rows_that_differ_are_a_revision_of_the_check_and_only_the_newest_is_history(store: Engine) -> None:
    check(store, day(0), [row()])
    again = check(store, day(0), [row(value=0.25)])
    assert again.revision == 2
    assert [one.row.value for one in feature_history(store, "churn", windows=5, before=day(9).end)] == [0.25]
    back = check(store, day(0), [row()])
    assert (back.revision, count(store)) == (3, 3), "what was said before stays on record"


def test_a_check_from_before_its_features_were_kept_gets_them_and_stays_the_same_check(store: Engine) -> None:
    old = check(store, day(0))
    assert check(store, day(0), [row()]) == old
    assert count(store) == 1
    assert check(store, day(0)) == old, "and a caller without features changes nothing"


def test_features_are_kept_with_their_check_or_not_at_all(store: Engine) -> None:
    broken = replace(row("plan"), outcome=None)
    with pytest.raises(sa.exc.IntegrityError):
        check(store, day(0), [row(), broken])
    assert (count(store), count(store, "checks")) == (0, 0)


def test_only_a_drift_check_has_features_and_each_of_them_once(store: Engine) -> None:
    given = {"model": "churn", "window": day(0), "version": 3, "outcome": "ok", "summary": {}}
    with pytest.raises(ValueError, match="only a drift check"):
        checks.record(store, kind="performance", features=[row()], **given)
    with pytest.raises(ValueError, match="one feature twice"):
        checks.record(store, kind="drift", features=[row(), row()], **given)
    assert count(store, "checks") == 0


def test_history_is_of_the_last_windows_that_ended_oldest_first(store: Engine) -> None:
    for place in (3, 0, 2, 1, 4):
        check(store, day(place), [row("b", place), row("a", place)])
    found = feature_history(store, "churn", windows=3, before=day(3).end)
    assert [(one.window, one.row.feature) for one in found] == [
        (day(place), name) for place in (1, 2, 3) for name in "ab"
    ]
    some = feature_history(store, "churn", windows=3, before=day(3).end, features=["a", HOSTILE])
    assert [one.window for one in some] == [day(1), day(2), day(3)]
    assert feature_history(store, "spend", windows=3, before=day(3).end) == []
    assert feature_history(store, "churn", windows=3, before=day(3).end, features=[]) == []


def test_verdicts_are_told_without_reading_their_summaries(store: Engine) -> None:
    check(store, day(0), outcome="undecided", version=2)
    check(store, day(1), outcome="warn")
    check(store, day(1), outcome="drift")
    issued: list[str] = []
    sa.event.listen(store, "before_cursor_execute", lambda *args: issued.append(args[2]))
    found = verdict_history(store, "churn", windows=9, before=day(1).end)
    assert [(one.window, one.version, one.outcome) for one in found] == [
        (day(0), 2, "undecided"),
        (day(1), 3, "drift"),
    ]
    assert (found[1].reason, found[1].drifted, found[0].drifted) == ("said drift", ("spend",), ())
    whole = (
        r"(?<!\()checks\.summary(?! ->)"  # neither JSON_EXTRACT(checks.summary, …) nor checks.summary ->> …
    )
    assert not any(re.search(whole, text) for text in issued)


def test_ten_thousand_features_are_written_and_read_in_bulk(store: Engine) -> None:
    rows = feature_rows(many(10_000))
    issued: list[bool] = []
    sa.event.listen(store, "before_cursor_execute", lambda *args: issued.append(args[-1]))
    began = time.perf_counter()
    check(store, day(0), rows, "drift")
    assert check(store, day(0), rows, "drift").revision == 1
    assert len(issued) < 12
    names = [one.feature for one in rows[:1200]]
    assert len(feature_history(store, "churn", windows=60, before=day(0).end, features=names)) == 1200
    assert time.perf_counter() - began < 30


def test_no_statement_changes_or_deletes_a_feature_s_history(store: Engine) -> None:
    issued: list[str] = []
    sa.event.listen(store, "before_cursor_execute", lambda *args: issued.append(args[2]))
    for value in (0.1, 0.2, 0.1):
        check(store, Window(START, START + timedelta(days=1)), [row(value=value)])
    assert not [text for text in issued if re.match(r"\s*(UPDATE|DELETE|REPLACE|TRUNCATE)", text)]

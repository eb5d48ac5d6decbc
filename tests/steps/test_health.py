"""Health as the store tells it: traffic, prediction log, checks and runs, on both databases."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from tasks import health as module
from tasks.core.drift.profile import build_reference
from tasks.core.evaluation.performance import judge
from tasks.core.health.alarms import Health
from tasks.core.window import Window
from tasks.health import (
    health,
    prediction_shift,
    publish_health,
    realised_slices,
    service_health,
    spent_budget,
    staleness,
)
from tasks.settings import Settings
from tasks.store import checks, flow_runs, predictions, service
from tasks.store.engine import open_store, reading, writing
from tasks.store.flow_runs import FlowRun
from tasks.store.schema import predictions as log_table
from tasks.store.schema_serving import traffic
from tests.make import make_frame, make_spec
from tests.stores import BOTH, fresh_url, place

T0 = datetime(2026, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)
SPEC = make_spec(
    window={"training": "28d", "check": "1d"},
    label={"column": "churned", "maturity": "2d"},
    gate={"slices": ["plan"]},
    slo={"availability": 0.99, "p99_ms": 50},
)


def day(number: int) -> Window:
    return Window(T0 + number * DAY, T0 + (number + 1) * DAY)


@pytest.fixture(params=BOTH)
def settings_of_both(request: pytest.FixtureRequest, tmp_path: Path):
    with fresh_url(request.param, request, tmp_path) as url:
        yield place(url, tmp_path)


@dataclass(frozen=True)
class Promised:
    value: float
    low: float


def champion(folder: Path, *, version: int = 3, scores: bool = True) -> Any:
    """Return what is needed of a champion: its number, promise, classes and reference."""
    p = np.random.default_rng(0).beta(2, 5, 3000)
    given = np.column_stack([1 - p, p]) if scores else None
    reference = build_reference(make_frame(3000, seed=1), SPEC, scores=given, deep=False)
    path = folder / f"reference-{scores}.json"
    path.write_text(reference.to_json())
    return SimpleNamespace(
        version=version,
        reference_path=str(path),
        promise=Promised(0.9, 0.88),
        classes=(0, 1),
        train_end=T0 - DAY,
        manifest=SimpleNamespace(created=T0 - DAY),
    )


def serve(
    engine: sa.Engine, number: int, *, rows: int = 400, version: int = 3, shift: float = 0.0,
    per_request: int = 1, took: Any = None, inputs: bool = True,
) -> pd.DataFrame:  # fmt: skip
    """Log one day of answers and return them with their true labels."""
    rng = np.random.default_rng(number * 7 + version)
    p = rng.beta(2 + shift, 5, rows)
    keys = [f"d{number}-v{version}-{row}" for row in range(rows)]
    plans = rng.choice(["basic", "pro"], rows).tolist()
    frame = pd.DataFrame(
        {
            "prediction_id": keys,
            "row_key": keys,
            "event_time": [day(number).start + DAY * row / rows for row in range(rows)],
            "prediction": (p > 0.5).astype(int),
            "score": np.column_stack([1 - p, p]).tolist(),
        }
    )
    given = [{"plan": plan, "tenure": 3.5} for plan in plans] if inputs else None
    predictions.log(engine, frame, model="churn", version=version, served_at=day(number).start, inputs=given)
    took = rng.lognormal(1.5, 0.6, rows) if took is None else took
    key, spent, request = (sa.bindparam(name) for name in ("key", "spent", "request"))
    marked = log_table.update().where(log_table.c.prediction_id == key)
    with writing(engine) as connection:
        connection.execute(
            marked.values(latency_ms=spent, request_id=request),
            [
                {
                    "key": one,
                    "spent": float(took[row // per_request]),
                    "request": f"{number}-{row // per_request}",
                }
                for row, one in enumerate(keys)
            ],
        )
    return frame.assign(label=(rng.random(rows) < p).astype(int), plan=plans)


def label(engine: sa.Engine, rows: pd.DataFrame, at: datetime) -> None:
    predictions.labels_record(engine, "churn", rows[["row_key", "label"]], at)


def counted(moment: datetime, requests: int, status: int = 200, **over: Any) -> dict[str, Any]:
    """Return a row of traffic."""
    return {"model": "churn", "minute": moment, "version": 3, "status": status, "instance": "a",
            "requests": requests, "rows": requests, "lost": 0,
            "latency": {"5": requests}, **over}  # fmt: skip


def count(engine: sa.Engine, *rows: dict[str, Any]) -> None:
    with writing(engine) as connection:
        connection.execute(traffic.insert(), list(rows))


# Service.


def test_traffic_is_summed_by_version_and_latency_is_exact_per_request(settings_of_both: Settings) -> None:
    engine = open_store(settings_of_both)
    took = np.random.default_rng(9).lognormal(2, 0.7, 100)
    serve(engine, 1, rows=300, per_request=3, took=took)
    for minute in range(10):
        moment = day(1).start + timedelta(minutes=minute)
        count(engine, counted(moment, 10, rows=30))
        count(engine, counted(moment, 2, status=422, version=0, rows=0))
        count(engine, counted(moment, 1, status=503, version=0, rows=0, instance="b"))
    count(engine, counted(day(2).start, 1000, status=500))
    count(engine, counted(day(1).start, 77, model="other"))
    found = service_health(SPEC, day(1), settings=settings_of_both)
    assert (found.total.requests, found.total.rows) == (130, 300)
    assert (found.total.errors_4xx, found.total.errors_5xx) == (20, 10)
    assert found.availability.value == pytest.approx(100 / 110)
    assert [one.version for one in found.versions] == [0, 3]
    mine = found.versions[1].latency
    assert (mine.requests, mine.exact) == (100, True)
    expected = np.percentile(took, [50, 95, 99])
    assert [mine.p50_ms, mine.p95_ms, mine.p99_ms] == pytest.approx(expected.tolist())
    assert found.latency == mine
    assert mine.slow == int((took > 50).sum())
    assert found.outcome == "drift", found.reason


def test_without_a_log_latency_comes_from_the_counts_and_batches_take_no_part(
    settings_of_both: Settings,
) -> None:
    engine = open_store(settings_of_both)
    serve(engine, 1, rows=50)
    with writing(engine) as connection:
        connection.execute(log_table.update().values(route="batch"))
    count(engine, counted(day(1).start, 1000, latency={"10": 900, "20": 100}))
    found = service_health(SPEC, day(1), settings=settings_of_both)
    assert (found.latency.requests, found.latency.exact) == (1000, False)
    assert found.latency.p99_ms == 20.0
    assert found.outcome == "ok"
    empty = service_health(SPEC, day(5), settings=settings_of_both)
    assert (empty.outcome, empty.versions) == ("undecided", ())


def test_an_outage_at_the_end_of_the_window_pages_and_one_that_is_over_does_not(
    settings_of_both: Settings,
) -> None:
    engine = open_store(settings_of_both)
    first, second = (
        [counted(day(number).start + timedelta(minutes=minute), 100) for minute in range(0, 1440, 10)]
        for number in (1, 2)
    )
    count(engine, *first)
    last = [day(1).end - timedelta(minutes=60 - minute) for minute in range(60)]
    count(engine, *(counted(moment, 20, status=503) for moment in last))
    found = service_health(SPEC, day(1), settings=settings_of_both)
    assert found.firing is not None
    assert found.firing.tier == "critical"
    count(engine, *second)
    later = service_health(SPEC, day(2), settings=settings_of_both)
    assert "critical" not in [burn.tier for burn in later.burns if burn.fires]
    again = service_health(SPEC, day(1), settings=settings_of_both)
    assert again == found, "what came later does not change what a window was"


# Predictions and groups.


def test_predictions_of_the_champion_that_move_are_found_without_a_label(
    settings_of_both: Settings, tmp_path: Path
) -> None:
    engine, incumbent = open_store(settings_of_both), champion(tmp_path)
    serve(engine, 1)
    serve(engine, 2, shift=2)
    serve(engine, 2, version=2)
    same, moved = (prediction_shift(SPEC, day(n), incumbent, settings=settings_of_both) for n in (1, 2))
    assert (same.outcome, same.rows) == ("ok", 400)
    assert (moved.outcome, moved.rows) == ("drift", 400)
    assert set(moved.classes) == {"0", "1"}
    nobody = prediction_shift(SPEC, day(1), None, settings=settings_of_both)
    assert (nobody.outcome, nobody.reason) == ("undecided", "no champion yet")


def test_a_reference_without_scores_gives_way_to_this_versions_first_windows(
    settings_of_both: Settings, tmp_path: Path
) -> None:
    engine, incumbent = open_store(settings_of_both), champion(tmp_path, scores=False)
    for number in range(5):
        serve(engine, number, shift=2 if number == 4 else 0)
    early, later, moved = (
        prediction_shift(SPEC, day(n), incumbent, settings=settings_of_both) for n in (2, 3, 4)
    )
    assert (early.outcome, early.reason) == ("undecided", "nothing to compare with")
    assert (later.outcome, later.against) == ("ok", "its first 3 windows")
    assert moved.outcome == "drift"


def test_groups_are_told_by_the_inputs_that_were_logged(settings_of_both: Settings, tmp_path: Path) -> None:
    from sklearn.metrics import roc_auc_score

    engine, incumbent = open_store(settings_of_both), champion(tmp_path)
    rows = serve(engine, 1, rows=1000)
    serve(engine, 1, version=2)
    label(engine, rows, day(3).start)
    found = realised_slices(SPEC, day(1), incumbent, as_of=day(3).end, settings=settings_of_both)
    assert {(one.column, one.value) for one in found.slices} == {("plan", "basic"), ("plan", "pro")}
    pro = rows[rows["plan"] == "pro"]
    mine = next(one for one in found.slices if one.value == "pro")
    assert mine.rows == len(pro)
    assert mine.score == pytest.approx(roc_auc_score(pro["label"], [score[1] for score in pro["score"]]))
    assert found.calibration is not None
    assert found.calibration.p_value > 0.01, "labels were drawn from these very chances"
    before = realised_slices(SPEC, day(1), incumbent, as_of=day(2).start, settings=settings_of_both)
    assert before.slices == (), "the labels were not known yet"


def test_groups_whose_column_was_not_logged_are_named(settings: Settings, tmp_path: Path) -> None:
    engine, incumbent = open_store(settings), champion(tmp_path)
    label(engine, serve(engine, 1, inputs=False), day(3).start)
    found = realised_slices(SPEC, day(1), incumbent, as_of=day(3).end, settings=settings)
    assert (found.unknown, found.slices) == (("plan",), ())


# Budget.


def check(engine: sa.Engine, kind: checks.Kind, window: Window, outcome: str = "ok", **summary: Any) -> None:
    checks.record(
        engine, model="churn", kind=kind, window=window, version=3, outcome=outcome, summary=summary
    )


def test_the_budget_counts_windows_below_their_limit_and_a_revised_one_once(settings: Settings) -> None:
    engine = open_store(settings)
    for number in range(40):
        check(engine, "performance", day(number), value=0.7 if number in (5, 20) else 0.9, limit=0.8)
    check(engine, "performance", day(30), "drift", value=0.7, limit=0.8)
    check(engine, "performance", day(31), "undecided", value=None, limit=0.8)
    found = spent_budget(SPEC, as_of=day(39).end, settings=settings)
    assert (found.windows, found.missed) == (29, 2), "the miss on day 5 is more than a period ago"
    assert found.share == pytest.approx(2 / 29)


def test_windows_that_overlap_count_once(settings: Settings) -> None:
    engine, spec = open_store(settings), make_spec(window={"training": "28d", "check": "7d"})
    for number in range(28):
        check(engine, "performance", Window(day(number).start, day(number + 7).start), value=0.7, limit=0.8)
    found = spent_budget(spec, as_of=day(34).start, settings=settings)
    assert (found.windows, found.missed, found.outcome) == (4, 4, "drift")


# Freshness.


def looks(settings: Settings, as_of: datetime, **more: Any) -> dict[str, bool]:
    return {one.what: one.is_stale for one in staleness(SPEC, as_of=as_of, settings=settings, **more)
            if one.newest is not None}  # fmt: skip


def ran(engine: sa.Engine, flow: str, as_of: datetime, outcome: str = "Ok: SKIP") -> None:
    flow_runs.record(engine, FlowRun("churn", flow, f"{flow}{as_of}", as_of, T0, 60.0, outcome))


def test_a_place_where_nothing_ever_ran_has_nothing_overdue(settings: Settings) -> None:
    assert looks(settings, day(100).end) == {}


def test_whatever_stops_is_overdue_and_what_was_never_there_is_not(settings_of_both: Settings) -> None:
    engine = open_store(settings_of_both)
    for number in range(10):
        label(engine, serve(engine, number, rows=20), day(number + 2).start)
        check(engine, "drift", day(number))
        ran(engine, "detect_drift", day(number).end)
        ran(engine, "monitor", day(number).end)
    fine = looks(settings_of_both, day(10).end)
    assert not any(fine.values())
    assert set(fine) == {
        "data",
        "predictions",
        "labels",
        "run of detect_drift",
        "run of monitor",
        "checks of drift",
    }
    late = looks(settings_of_both, day(20).end)
    assert {what for what, is_stale in late.items() if is_stale} == set(fine) - {"checks of drift"}
    asked = looks(settings_of_both, day(20).end, running="monitor")
    assert "run of monitor" not in asked, "who asks, runs"


def test_a_flow_that_only_fails_is_overdue_and_says_so(settings: Settings) -> None:
    engine = open_store(settings)
    for number in range(15):
        ran(engine, "score", day(number).end, "Failed" if number > 8 else "Scored")
    found = next(one for one in staleness(SPEC, as_of=day(15).end, settings=settings) if "score" in one.what)
    assert found.is_stale
    assert found.message.endswith("; 6 failed since")


def test_the_past_is_judged_by_what_was_known_then(settings: Settings) -> None:
    engine = open_store(settings)
    for number in (0, 1, 2, 3, 4, 30):
        ran(engine, "score", day(number).end, "Scored")
        serve(engine, number, rows=5)
    assert looks(settings, day(5).end) == {"predictions": False, "data": False, "run of score": False}
    assert looks(settings, day(12).end) == {"predictions": True, "data": True, "run of score": True}
    assert not any(looks(settings, day(31).start).values())


def test_a_champion_that_should_have_been_replaced_by_its_age_is_told(
    settings: Settings, tmp_path: Path
) -> None:
    aged = make_spec(retrain={"max_age": "30d"}, window={"training": "28d", "check": "1d"})
    incumbent = champion(tmp_path)
    for number, is_stale in [(20, False), (40, True)]:
        found = staleness(aged, as_of=day(number).end, incumbent=incumbent, settings=settings)
        one = next(one for one in found if one.what == "champion")
        assert (one.is_stale, one.tier) == (is_stale, "info")


# All of it.


def everything(settings: Settings, number: int, incumbent: Any, **more: Any) -> Health:
    return health.fn(SPEC, day(number), incumbent, as_of=day(number + 2).end, settings=settings, **more)


def recorded(engine: sa.Engine) -> list[tuple[str, str, int]]:
    table = checks.checks
    query = sa.select(table.c.kind, table.c.window_start, table.c.revision).order_by(table.c.kind, table.c.id)
    with reading(engine) as connection:
        return [(row.kind, f"{row.window_start:%d}", row.revision) for row in connection.execute(query)]


def test_health_is_recorded_once_per_window_each_part_under_its_own(
    settings_of_both: Settings, tmp_path: Path
) -> None:
    engine, incumbent = open_store(settings_of_both), champion(tmp_path)
    rows = serve(engine, 1)
    serve(engine, 3, shift=2)
    label(engine, rows, day(3).start)
    count(engine, counted(day(3).start, 500))
    said = [rows[name].tolist() for name in ("label", "prediction", "score")]
    performance = judge(said[0], said[1], said[2], (0, 1), SPEC, 0.6)
    dry = everything(settings_of_both, 1, incumbent, performance=performance, dry_run=True)
    assert recorded(engine) == []
    found = everything(settings_of_both, 1, incumbent, performance=performance)
    assert found == dry
    expected = [("budget", "08", 1), ("freshness", "08", 1), ("predictions", "08", 1), ("service", "08", 1),
                ("slices", "06", 1)]  # fmt: skip
    assert recorded(engine) == expected
    assert everything(settings_of_both, 1, incumbent, performance=performance) == found
    assert recorded(engine) == expected, "looking again writes nothing"
    assert found.predictions.outcome == "drift", "the newest window needs no label"
    assert found.diagnosis.kind == "healthy", "the judged window is an older one, in which nothing moved"
    assert {alarm.cause: alarm.is_bad for alarm in found.alarms}["predictions"] is True
    kept = checks.recent(engine, "churn", "service", 1, day(9).end)[0]
    assert (kept.version, kept.summary["requests"], kept.summary["availability"]) == (3, 500, 1.0)
    json.dumps(kept.summary)


def test_decay_is_put_down_to_predictions_that_had_moved_in_the_same_window(
    settings: Settings, tmp_path: Path
) -> None:
    engine, incumbent = open_store(settings), champion(tmp_path)
    serve(engine, 3, shift=2)
    everything(settings, 1, incumbent)  # looks at the predictions of day 3
    rows = serve(engine, 5)
    label(engine, rows, day(5).start)
    decayed = judge([0, 1] * 200, [1, 0] * 200, [[0.2, 0.8], [0.8, 0.2]] * 200, (0, 1), SPEC, 0.9)
    assert decayed.outcome == "drift"
    assert everything(settings, 3, incumbent, performance=decayed).diagnosis.kind == "decay with drift"
    check(engine, "drift", day(5), drifted=[], score_drifted=False)
    everything(settings, 3, incumbent)  # looks at the predictions of day 5, which are as ever
    same = everything(settings, 5, incumbent, performance=replace(decayed))
    assert same.diagnosis.kind == "decay without drift"


def test_without_a_champion_there_is_health_all_the_same(settings: Settings) -> None:
    found = everything(settings, 1, None)
    assert (found.predictions.outcome, found.slices.outcome) == ("undecided", "undecided")
    assert found.alarms == ()
    assert found.diagnosis.kind == "cannot tell"


def test_buckets_speak_where_the_log_lost_most(settings: Settings) -> None:
    engine = open_store(settings)
    serve(engine, 1, rows=10)
    count(engine, counted(day(1).start, 1000, latency={"10": 1000}, lost=990))
    found = service.latencies(engine, "churn", day(1))
    assert (found[3].requests, found[3].exact) == (1000, False)
    assert found[service.ALL].requests == 1000


def test_hourly_runs_ask_the_store_no_more_after_days_than_on_the_first(
    settings: Settings, tmp_path: Path
) -> None:
    engine, incumbent = open_store(settings), champion(tmp_path)
    hourly = make_spec(
        window={"training": "28d", "check": "1h"}, label={"column": "churned", "maturity": "2h"}
    )
    asked: list[str] = []

    def heard(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        asked.append(statement)

    sa.event.listen(engine, "before_cursor_execute", heard)
    per_run = []
    for number in range(2):
        serve(engine, number, rows=48)
    for hours in range(6, 36):
        asked.clear()
        window = Window(T0 + timedelta(hours=hours), T0 + timedelta(hours=hours + 1))
        health.fn(hourly, window, incumbent, as_of=T0 + timedelta(hours=hours + 3), settings=settings)
        ran(engine, "monitor", T0 + timedelta(hours=hours + 3))
        per_run.append(len(asked))
    sa.event.remove(engine, "before_cursor_execute", heard)
    assert max(per_run[-10:]) <= max(per_run[:15])
    assert len(recorded(engine)) == 5 * 30


def test_the_page_of_a_run_is_kept_under_the_models_own_key(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages: list[tuple[str, ...]] = []
    monkeypatch.setattr(module, "note", lambda *given: pages.append(given) or "churn-health")
    assert publish_health.fn(SPEC, everything(settings, 1, None), day(1)) == "churn-health"
    ((model, what, text, description),) = pages
    assert (model, what) == ("churn", "health")
    assert "cannot tell" in text
    assert description == f"health: cannot tell, window {day(1)}"

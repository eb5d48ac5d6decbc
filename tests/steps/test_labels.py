"""How well labels come, windows that late labels open again, and new labels as a reason to retrain."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tasks.core.policy.decision import decide
from tasks.core.spec import ModelSpec
from tasks.core.window import Window
from tasks.decide import record_check, windows_to_judge
from tasks.labels import label_health, labels_wanted
from tasks.monitor import gather_evidence, realised_performance
from tasks.settings import Settings
from tasks.store import checks, predictions, watermarks
from tasks.store.engine import open_store
from tasks.store.labels import Label, hear
from tests.labelled import DAY, T0, day, label, serve, spec_with


@pytest.fixture
def engine(settings: Settings):
    return open_store(settings)


# How well labels come.


def watched(settings: Settings, number: int, spec: ModelSpec, **over: Any):
    as_of = day(number).end + 2 * DAY
    found = label_health.fn(spec, day(number), as_of=over.pop("as_of", as_of), settings=settings)
    record_check.fn(spec, "labels", day(number), found, version=1, as_of=as_of, settings=settings)
    return found


def test_a_window_whose_labels_ceased_to_come_is_found_and_does_not_become_usual(engine, settings) -> None:
    spec = spec_with()
    for number in range(4):
        keys, y = serve(engine, number)
        label(engine, keys[:95], y[:95], day(number).end)
        found = watched(settings, number, spec)
        assert (found.outcome, found.labelled, found.predictions) == ("ok", 95, 100)
    for number in range(4, 14):
        keys, y = serve(engine, number)
        label(engine, keys[:9], y[:9], day(number).end)
        found = watched(settings, number, spec)
        assert (found.outcome, found.usual) == ("drift", 0.95), number
    kept = checks.recent(engine, "churn", "labels", 1, day(20).end)[0]
    assert (kept.outcome, kept.summary["coverage"]) == ("drift", 0.09)
    assert kept.summary["sentence"].startswith(
        "labels drift: 9 of 100 predictions labelled (9 %, usually 95 %)"
    )


def test_delay_is_from_the_event_to_its_first_label(engine, settings) -> None:
    keys, y = serve(engine, 0)
    label(engine, keys, y, day(1).start)
    label(engine, keys[:10], 1 - y[:10], day(2).start)
    found = watched(settings, 0, spec_with())
    events = np.arange(100) / 100 * 86_400
    assert found.delay_p50_s == pytest.approx(np.percentile(86_400 - events, 50))
    assert found.delay_p95_s == pytest.approx(np.percentile(86_400 - events, 95))
    assert found.corrected == 10
    assert watched(settings, 0, spec_with(), as_of=day(0).end).outcome == "undecided"


def test_a_store_without_predictions_is_undecided(engine, settings) -> None:
    assert watched(settings, 0, spec_with()).outcome == "undecided"


# Windows that late labels open again.


def judge(settings: Settings, number: int, spec: ModelSpec) -> list[Window]:
    """Judge what a monitor run at the end of this day would; return the windows it judged."""
    as_of = day(number).end
    spans = windows_to_judge.fn(spec, day(number), 1, as_of=as_of, settings=settings)
    for span in spans:
        verdict = realised_performance.fn(spec, span, 0.85, (0, 1), as_of=as_of, settings=settings)
        record_check.fn(spec, "performance", span, verdict, version=1, as_of=as_of, settings=settings)
    return spans


def rows_of(engine, number: int) -> list[int]:
    found = checks.recent(engine, "churn", "performance", 100, day(60).end)
    return [int(check.summary["rows"]) for check in found if check.window == day(number)]


def test_late_labels_open_a_window_once_and_the_history_is_right_again(engine, settings) -> None:
    spec = spec_with()
    for number in range(7):
        keys, y = serve(engine, number)
        half = keys[:50] if number == 1 else keys
        label(engine, half, y[: len(half)], day(number).end)
        assert judge(settings, number, spec)[-1] == day(number)
    assert judge(settings, 6, spec) == [day(4), day(5), day(6)], "as ever"
    assert rows_of(engine, 1) == [50]

    keys, y = serve(engine, 1)
    label(engine, keys[50:], y[50:], day(7).end)
    serve(engine, 7)
    assert judge(settings, 7, spec) == [day(1), day(4), day(5), day(6), day(7)]
    assert rows_of(engine, 1) == [100]
    assert judge(settings, 7, spec) == [day(5), day(6), day(7)], "nothing came since"
    label(engine, keys[:1], 1 - y[:1], day(8).end)
    assert day(1) in judge(settings, 8, spec), "a correction is news too"
    assert day(1) not in judge(settings, 8, spec)


def test_labels_of_another_version_open_nothing(engine, settings) -> None:
    spec = spec_with()
    for number in range(6):
        serve(engine, number)
        judge(settings, number, spec)
    rows = {"prediction_id": ["v2"], "row_key": ["v2"], "prediction": [0], "score": [None]}
    frame = pd.DataFrame(rows | {"event_time": [T0]})
    predictions.log(engine, frame, model="churn", version=2, served_at=T0)
    label(engine, ["v2"], [1], day(6).end)
    assert judge(settings, 6, spec)[0] == day(3), "the last three only"


def test_labels_are_fetched_as_far_back_as_one_is_missing_once_per_window(engine, settings) -> None:
    spec = spec_with()
    for number in range(9):
        keys, y = serve(engine, number)
        label(engine, keys[:99] if number == 2 else keys, y[:99] if number == 2 else y, day(number).end)
    now, recent = day(8).end + 2 * DAY, Window(day(5).start, day(8).end)

    def wanted(as_of: datetime) -> Window:
        return labels_wanted.fn(spec, day(8), as_of=as_of, settings=settings)

    assert wanted(now) == Window(day(2).start + 0.99 * DAY, day(8).end)
    watched(settings, 8, spec)
    assert wanted(now + timedelta(hours=1)) == recent
    assert wanted(now + DAY).start < recent.start
    label(engine, ["d2-99"], [1], now)
    assert wanted(now + DAY) == recent


# New labels as a reason to retrain.


def gathered(settings: Settings, number: int, wanted: int | None, **over: Any):
    retrain = {"min_new_rows": 0, "cooldown": "1h", "min_new_labels": wanted}
    spec = spec_with(retrain=retrain)
    found = gather_evidence.fn(
        spec, day(number).end + 2 * DAY, day(number), version=1, settings=settings, **over
    )
    return found, decide(found, spec)


def test_enough_new_labels_are_a_reason_to_retrain_until_a_training_has_seen_them(engine, settings) -> None:
    for number in range(4):
        keys, y = serve(engine, number)
        label(engine, keys, y, day(number).end)
    nobody, _ = gathered(settings, 3, None, champion_trained=T0 - DAY)
    assert nobody.new_labels is None
    assert gathered(settings, 3, 300)[0].new_labels is None, "nothing was ever trained"
    watermarks.commit(engine, "churn", T0, [], "first")
    found, decision = gathered(settings, 3, 400)
    assert (found.new_labels, decision.kind, decision.cause) == (400, "TRAIN", "new_labels")
    assert decision.evidence["new_labels"] == 400
    assert decision.window == day(3)
    assert gathered(settings, 3, 401)[1].kind == "SKIP"
    assert gathered(settings, 2, 400)[0].new_labels == 300, "nothing later is seen"
    watermarks.commit(engine, "churn", day(3).start, [], "second")
    assert gathered(settings, 3, 101)[1].kind == "SKIP"
    assert gathered(settings, 3, 101)[0].new_labels == 100
    told = [Label("d0-0", 1, day(3).end + 1.5 * DAY, prediction_id="id-d0-0")]
    hear(engine, "churn", told, source="api", heard_at=T0)
    assert gathered(settings, 3, 101)[0].new_labels == 100, "a correction is no new row"


def test_without_a_watermark_the_day_of_training_counts(engine, settings) -> None:
    for number in range(4):
        keys, y = serve(engine, number)
        label(engine, keys, y, day(number).end)
    assert gathered(settings, 3, 100, champion_trained=day(2).start + 2 * DAY)[0].new_labels == 200

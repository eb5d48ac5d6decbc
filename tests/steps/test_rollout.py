"""A challenger on live rows, judged from the store: sent back when it is worse, once, and told of."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy.engine import Engine

from tasks.core.window import Window
from tasks.rollout import ExposureVerdict, judge_exposure
from tasks.settings import Settings
from tasks.store import exposures, labels, registry
from tasks.store.engine import insert_new, open_store, writing
from tasks.store.schema import predictions
from tests.copied import copy_place
from tests.serving.exposed import exposed_spec, promoted, put_away, waiting
from tests.stores import BOTH, fresh_store
from tests.versions import LATER, Made, set_up

BEGAN = LATER + timedelta(days=1)
NOW = BEGAN + timedelta(days=2)
SPEC = exposed_spec(canary=0.2, canary_min_rows=100)
ALWAYS = Window(LATER, LATER + timedelta(days=30))


@pytest.fixture(params=BOTH)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An empty store on either database."""
    with fresh_store(request.param, request, tmp_path) as engine:
        yield engine


@pytest.fixture(scope="module")
def original(made: Made, fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place where version 1 serves and version 2 waits, made once."""
    folder = tmp_path_factory.mktemp("two") / "state"
    place = set_up(Settings(state_dir=folder, threads=1, probe="here"), fresh)
    promoted(made, place)
    waiting(made, place, "a2", canary=0.2, canary_min_rows=100)
    return folder


@pytest.fixture
def two(original: Path, place: Settings) -> Settings:
    """This test's own copy of that place."""
    copy_place(original, place)
    return place


def judged(place: Settings, at: datetime = NOW, **over: Any) -> ExposureVerdict:
    return judge_exposure.fn(SPEC, as_of=at, settings=place, **over)


def begun(place: Settings, mode: exposures.Mode = "canary") -> None:
    exposures.begin(open_store(place), "churn", 2, mode=mode, share=0.2, actor="serving app", at=BEGAN)


def answered(
    place: Settings, version: int, route: str, rows: int, right: float, *, first: datetime = BEGAN
) -> list[str]:
    """Log answers, one a minute, of which about this share is right, and their labels; return their ids."""
    rng = np.random.default_rng(version)
    truth = (rng.random(rows) < 0.4).astype(int)
    chance = np.where(rng.random(rows) < right, 0.7, 0.3)
    chance = np.clip(chance + rng.normal(0, 0.05, rows), 0.01, 0.99)
    given = np.where(truth == 1, chance, 1 - chance)
    ids = [f"{route}-{version}-{number}" for number in range(rows)]
    made = [
        {
            "model": "churn", "prediction_id": one, "version": version, "row_key": one,
            "event_time": first + timedelta(minutes=place_), "served_at": first + timedelta(minutes=place_),
            "prediction": int(p > 0.5), "score": [1 - p, p], "inputs": None, "latency_ms": 2.0,
            "request_id": one, "route": route, "status": 200,
        }
        for place_, (one, p) in enumerate(zip(ids, given.tolist(), strict=True))
    ]  # fmt: skip
    engine = open_store(place)
    with writing(engine) as connection:
        insert_new(connection, predictions, made)
    labels.labels_record(
        engine, "churn", pd.DataFrame({"row_key": ids, "label": truth.tolist()}), NOW - timedelta(hours=1)
    )
    return ids


def told(place: Settings) -> list[tuple[str, str]]:
    return [(row.event, row.actor) for row in exposures.history(open_store(place), "churn")]


def test_a_worse_canary_is_sent_back_once_with_its_reason(two: Settings) -> None:
    begun(two)
    answered(two, 1, "champion", 700, 0.85)
    answered(two, 2, "canary", 170, 0.45)
    dry = judged(two, dry_run=True)
    assert (dry.outcome, told(two)) == ("exposed", [("began", "serving app")])
    verdict = judged(two)
    assert (verdict.outcome, verdict.is_news, verdict.version, verdict.champion) == ("returned", True, 2, 1)
    assert verdict.canary is not None
    assert (verdict.canary.look, verdict.canary.canary_rows) == (2, 150)  # the first 150 of 170
    assert verdict.canary.champion_rows == 150  # of the same minutes
    assert verdict.canary.high < 0
    assert "worse beyond chance" in verdict.sentence()
    again = judged(two)
    assert (again.outcome, again.is_news) == ("returned", False)
    assert told(two) == [("began", "serving app"), ("returned", "monitor")]
    assert again.summary()["since"] == BEGAN.isoformat()
    assert again.cause == "canary v2"
    put_away(registry.find_version("churn", 2, settings=two), two)
    assert judged(two).outcome == "ended"  # so the incident is over
    assert len(told(two)) == 2


def test_a_canary_as_good_goes_on_and_one_with_few_labels_is_undecided(two: Settings) -> None:
    begun(two)
    answered(two, 1, "champion", 700, 0.8)
    answered(two, 2, "canary", 99, 0.3)
    few = judged(two)
    assert few.canary is not None
    assert (few.outcome, few.canary.outcome) == ("exposed", "undecided")
    assert "99 labelled canary answers, 100 are needed" in few.reason
    assert few.canary_rows == 99


def test_a_canary_as_good_stays(two: Settings) -> None:
    begun(two)
    answered(two, 1, "champion", 700, 0.8)
    answered(two, 2, "canary", 300, 0.8)
    verdict = judged(two)
    assert verdict.canary is not None
    assert (verdict.outcome, verdict.canary.outcome) == ("exposed", "keep")
    assert told(two) == [("began", "serving app")]


def test_batches_and_what_was_answered_before_say_nothing_of_the_canary(two: Settings) -> None:
    begun(two)
    answered(two, 1, "champion", 300, 0.8)
    answered(two, 1, "batch", 300, 0.1)
    answered(two, 2, "canary", 300, 0.2, first=BEGAN - timedelta(days=1))  # ends before it began
    verdict = judged(two)
    assert verdict.canary is not None
    assert (verdict.canary.outcome, verdict.canary_rows) == ("undecided", 0)
    assert verdict.canary.champion_rows == 300


def test_the_shadow_is_told_beside_the_answers_that_were_given(two: Settings) -> None:
    begun(two, "shadow")
    ids = answered(two, 1, "champion", 200, 0.8)
    said = [
        {
            "model": "churn", "prediction_id": one, "version": 2, "at": BEGAN, "prediction": 1,
            "score": [0.4, 0.6], "latency_ms": 1.0, "error": None,
        }
        for one in ids[:150]
    ]  # fmt: skip
    said[0] |= {"prediction": None, "score": None, "error": "contract"}
    assert exposures.keep_shadows(open_store(two), said) == 150
    assert exposures.keep_shadows(open_store(two), said) == 0
    verdict = judged(two)
    assert (verdict.outcome, verdict.canary) == ("exposed", None)
    assert verdict.shadow is not None
    assert (verdict.shadow.rows, verdict.shadow.refused, verdict.shadow.labelled) == (150, 1, 149)
    assert verdict.shadow.score == 0.5  # AUC of an answer that is always the same
    assert verdict.shadow.champion_score > 0.7
    assert verdict.shadow.high < 0
    assert "150 shadow answers" in verdict.sentence()
    assert judged(two, NOW + timedelta(days=200)).shadow is None  # dropped after ninety days


def test_what_waits_no_more_is_ended_where_no_app_runs(two: Settings) -> None:
    begun(two)
    put_away(registry.find_version("churn", 2, settings=two), two)
    assert judged(two).outcome == "ended"
    assert told(two) == [("began", "serving app"), ("ended", "monitor")]


def test_nothing_exposed_is_said_plainly(two: Settings) -> None:
    verdict = judged(two)
    assert (verdict.outcome, verdict.version) == ("nothing", None)
    assert verdict.sentence() == "no version sees live rows beside the champion"
    assert verdict.summary()["canary"] is None


# The tables, on both databases.


def test_many_processes_begin_and_send_back_one_exposure_once(store: Engine) -> None:
    stands: list[object] = []

    def all_at_once(what: Any) -> None:
        together = [threading.Thread(target=lambda: stands.append(what())) for _ in range(6)]
        for one in together:
            one.start()
        for one in together:
            one.join()

    def begin() -> exposures.Event:
        return exposures.begin(store, "churn", 2, mode="canary", share=0.1, actor="app", at=BEGAN)

    all_at_once(begin)
    assert stands == ["began"] * 6
    stands.clear()
    all_at_once(lambda: exposures.send_back(store, "churn", 2, reason="bad", actor="app", at=NOW))
    assert sorted(map(bool, stands)) == [False] * 5 + [True]
    assert begin() == exposures.last_event(store, "churn", 2) == "returned"
    assert exposures.end_others(store, "churn", None, actor="app", at=NOW) == ()
    assert [row.event for row in exposures.history(store, "churn")] == ["began", "returned"]


def test_an_exposure_that_ended_may_begin_again(store: Engine) -> None:
    for _ in range(2):
        exposures.begin(store, "churn", 2, mode="shadow", share=0.0, actor="app", at=BEGAN)
        exposures.begin(store, "other", 2, mode="shadow", share=0.0, actor="app", at=BEGAN)
        assert exposures.end_others(store, "churn", 2, actor="app", at=NOW) == ()
        assert exposures.end_others(store, "churn", 3, actor="app", at=NOW) == (2,)
    assert [row.event for row in exposures.history(store, "churn")] == ["began", "ended"] * 2
    assert exposures.last_event(store, "other", 2) == "began"
    assert exposures.last_event(store, "churn", 9) is None


def test_pairs_and_live_rows_keep_their_columns_when_there_are_none(store: Engine) -> None:
    assert tuple(exposures.shadow_pairs(store, "churn", 2, ALWAYS)) == exposures.PAIR_COLUMNS
    assert tuple(exposures.live_rows(store, "churn", ALWAYS, {1, 2})) == exposures.LIVE_COLUMNS
    assert exposures.waiting_now(store, "churn") is None

"""A version that waits on live rows: its share, its shadow, what sends it back, and that it is told once."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from prometheus_client import generate_latest

from serving import shade as shading
from serving.app import create_app
from serving.holder import Holder, Served
from serving.metrics import Metrics
from serving.request import BadRows
from serving.rollout import Rollout
from serving.scoring import NoAnswer, rows_of
from serving.shade import MOST_WAITING
from tasks.core.window import Window
from tasks.settings import Settings
from tasks.store import exposures, predictions
from tasks.store.engine import open_store, reading
from tasks.store.schema_serving import shadows
from tests.copied import copy_place
from tests.serving.exposed import ROW, other_model, promoted, put_away, serve, waiting
from tests.serving.running import running
from tests.versions import Made, set_up

NOW = datetime.now(UTC)
EVER = Window(NOW.replace(year=2000), NOW.replace(year=2999))
IDS = [f"request-{number}" for number in range(4000)]


@pytest.fixture(scope="module")
def original(made: Made, fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place where version 1 serves, made once."""
    folder = tmp_path_factory.mktemp("one") / "state"
    promoted(made, set_up(Settings(state_dir=folder, threads=1, probe="here"), fresh))
    return folder


@pytest.fixture
def here(original: Path, place: Settings) -> Settings:
    """This test's own copy of that place."""
    copy_place(original, place)
    return place


@pytest.fixture(autouse=True)
def _compared_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take a scorer without holding it against the pipeline on made-up rows: most of a version's loading."""
    monkeypatch.setattr("serving.scoring._agrees", lambda *_: True)


class Clock:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def looking(place: Settings, clock: Callable[[], float] = time.monotonic) -> tuple[Holder, Rollout]:
    """Return what an app has of one model after its first look."""
    holder = Holder("churn", place)
    rollout = Rollout(holder, place, clock=clock)
    look(holder, rollout)
    return holder, rollout


def look(holder: Holder, rollout: Rollout) -> None:
    holder.refresh()
    rollout.refresh()


def routes(holder: Holder, rollout: Rollout, ids: list[str] = IDS) -> dict[str, int]:
    """Return which version each of these requests is answered by."""
    assert holder.current is not None
    return {one: rollout.chosen(one, holder.current)[0].version for one in ids}


def canary_of(holder: Holder, rollout: Rollout) -> Served:
    """Return the version that answers the canary's share."""
    assert holder.current is not None
    found = (rollout.chosen(one, holder.current)[0] for one in IDS)
    return next(one for one in found if one.version != holder.current.version)


def events(place: Settings) -> list[tuple[int, str, str, str]]:
    rows = exposures.history(open_store(place), "churn")
    return [(row.version, row.mode, row.event, row.actor) for row in rows]


def in_shadow(place: Settings) -> list[Any]:
    with reading(open_store(place)) as connection:
        return list(connection.execute(sa.select(shadows).order_by(shadows.c.prediction_id)).all())


# Who is exposed.


def test_nothing_waits_and_the_champion_answers_everything(here: Settings) -> None:
    holder, rollout = looking(here)
    assert set(routes(holder, rollout).values()) == {1}
    assert rollout.described() is None
    assert events(here) == []


def test_a_canary_answers_its_share_and_the_same_ids_always(here: Settings, made: Made) -> None:
    waiting(made, here, "a2", canary=0.1)
    holder, rollout = looking(here)
    given = routes(holder, rollout)
    share = sum(version == 2 for version in given.values()) / len(given)
    assert abs(share - 0.1) < 4 * np.sqrt(0.1 * 0.9 / len(IDS))  # four standard errors
    again = looking(here)
    assert routes(*again) == given
    assert {rollout.chosen(one, holder.current)[1] for one, by in given.items() if by == 2} == {"canary"}  # type: ignore[arg-type]
    assert events(here) == [(2, "canary", "began", "serving app")]  # of two apps, once


def test_a_version_whose_spec_asks_for_nothing_sees_nothing(here: Settings, made: Made) -> None:
    waiting(made, here, "a2")
    holder, rollout = looking(here)
    look(holder, rollout)
    assert set(routes(holder, rollout).values()) == {1}
    assert (events(here), rollout.trouble) == ([], "")


def test_a_version_that_nobody_has_to_approve_is_not_exposed_on_its_way(here: Settings, made: Made) -> None:
    from tasks.store import lifecycle
    from tasks.store.engine import writing
    from tests.serving.exposed import exposed_spec
    from tests.versions import a_version

    version = a_version(made, here, "a2", spec=exposed_spec(canary=0.5))
    with writing(open_store(here)) as connection:  # as a promotion by the gate leads it through
        why = lifecycle.Why("gate", "better", "d2", NOW)
        lifecycle.lead(connection, "churn", version.number, "STAGING", why, "gate")
    holder, rollout = looking(here)
    assert set(routes(holder, rollout).values()) == {1}


def test_a_waiting_version_with_files_that_nobody_here_made_is_not_exposed(
    here: Settings, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting(made, here, "a2", canary=0.5)
    monkeypatch.setattr("tasks.store.catalog.is_held", lambda *_: False)
    clock = Clock()
    holder, rollout = looking(here, clock)
    assert set(routes(holder, rollout).values()) == {1}
    assert "files that nobody here made" in rollout.trouble
    monkeypatch.undo()
    look(holder, rollout)
    assert set(routes(holder, rollout).values()) == {1}  # not asked again every second
    assert "files that nobody here made" in rollout.trouble
    clock.now += 31
    look(holder, rollout)
    assert set(routes(holder, rollout).values()) == {1, 2}
    assert rollout.trouble == ""


def test_a_waiting_version_that_answers_otherwise_than_evaluated_is_not_exposed(
    here: Settings, made: Made
) -> None:
    version = waiting(made, here, "a2", canary=0.5)
    golden = Path(version.source.removeprefix("file://")) / "golden.parquet"
    golden.chmod(0o600)
    golden.write_bytes(golden.read_bytes()[:-1])
    shutil.rmtree(here.root / "versions", ignore_errors=True)
    holder, rollout = looking(here)
    assert set(routes(holder, rollout).values()) == {1}
    assert "another digest" in rollout.trouble
    assert events(here) == []


# What ends it.


def test_three_failures_in_ten_minutes_send_the_canary_back_for_good(here: Settings, made: Made) -> None:
    waiting(made, here, "a2", canary=0.5)
    clock = Clock()
    holder, rollout = looking(here, clock)
    canary = canary_of(holder, rollout)
    for wait in (0, 200, 401):  # the first is forgotten when the third comes
        clock.now += wait
        rollout.failed(canary, NoAnswer())
    assert set(routes(holder, rollout).values()) == {1, 2}
    for _ in range(9):
        rollout.failed(canary, BadRows([]))  # its own contract: no failure
    assert set(routes(holder, rollout).values()) == {1, 2}
    assert (rollout.failures, rollout.refused) == (3, 9)
    rollout.failed(canary, ValueError("secret-value"))
    assert set(routes(holder, rollout).values()) == {1}  # at once, before anything is written
    look(holder, rollout)
    look(holder, rollout)
    rows = exposures.history(open_store(here), "churn")
    assert [(row.event, row.actor) for row in rows] == [("began", "serving app"), ("returned", "serving app")]
    assert rows[-1].reason == "3 failures in ten minutes, the last a ValueError"
    assert "secret" not in str(rows)
    assert set(routes(*looking(here)).values()) == {1}  # and after a restart
    assert len(events(here)) == 2


def test_a_failure_of_the_champion_sends_nothing_back(here: Settings, made: Made) -> None:
    waiting(made, here, "a2", canary=0.5, canary_max_errors=1)
    holder, rollout = looking(here)
    assert holder.current is not None
    rollout.failed(holder.current, ValueError())
    assert set(routes(holder, rollout).values()) == {1, 2}


def test_what_another_process_sent_back_is_back_here_at_the_next_look(here: Settings, made: Made) -> None:
    waiting(made, here, "a2", canary=0.5)
    holder, rollout = looking(here)
    assert exposures.send_back(open_store(here), "churn", 2, reason="worse", actor="monitor", at=NOW)
    assert set(routes(holder, rollout).values()) == {1, 2}
    look(holder, rollout)
    assert set(routes(holder, rollout).values()) == {1}
    assert "sent back" in (rollout.described() or {})["returned"]


def test_a_return_waits_for_a_store_that_is_away(
    here: Settings, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting(made, here, "a2", canary=0.5, canary_max_errors=1)
    holder, rollout = looking(here)
    served = canary_of(holder, rollout)
    rollout.failed(served, NoAnswer())

    def away(*_: object, **__: object) -> bool:
        raise OSError("gone")

    monkeypatch.setattr(exposures, "send_back", away)
    look(holder, rollout)
    assert rollout.trouble == "looking for a version that waits: OSError"
    assert set(routes(holder, rollout).values()) == {1}
    monkeypatch.undo()
    rollout.close()
    assert events(here)[-1] == (2, "canary", "returned", "serving app")


@pytest.mark.parametrize("how", ["promoted", "rejected", "overtaken"])
def test_a_decision_ends_the_exposure_once(how: str, here: Settings, made: Made) -> None:
    version = waiting(made, here, "a2", canary=0.5)
    apps = [looking(here), looking(here)]
    if how == "promoted":
        serve(version, here, "d2")
    elif how == "rejected":
        put_away(version, here)
    else:
        waiting(made, here, "a3", canary=0.2)
    for holder, rollout in apps:
        look(holder, rollout)
    ended = [(row.version, row.event) for row in exposures.history(open_store(here), "churn")]
    expected = [(2, "began"), (2, "ended")] + ([(3, "began")] if how == "overtaken" else [])
    assert ended == expected
    for holder, rollout in apps:
        answering = {"promoted": {2}, "rejected": {1}, "overtaken": {1, 3}}[how]
        assert set(routes(holder, rollout).values()) == answering


def test_what_was_decided_while_no_app_ran_is_ended_by_the_next(here: Settings, made: Made) -> None:
    version = waiting(made, here, "a2", shadow=True)
    looking(here)[1].close()
    put_away(version, here)
    looking(here)
    assert [row[2] for row in events(here)] == ["began", "ended"]


def test_a_look_never_raises(here: Settings, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting(made, here, "a2", canary=0.5)
    holder, rollout = looking(here)

    def away(*_: object) -> int:
        raise OSError("gone")

    monkeypatch.setattr(exposures, "waiting_now", away)
    rollout.refresh()
    assert "OSError" in rollout.trouble
    assert set(routes(holder, rollout).values()) == {1, 2}  # the last good state stays
    monkeypatch.undo()
    rollout.refresh()
    assert rollout.trouble == ""


def test_a_look_that_failed_breaks_no_numbers_and_is_forgotten_after_one_that_did_not(
    here: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> int:
        raise OSError("gone")

    holder, rollout = looking(here)
    metrics = Metrics({"churn": holder})
    metrics.watch_rollouts({"churn": rollout})
    monkeypatch.setattr(exposures, "waiting_now", away)
    rollout.refresh()
    assert "OSError" in (rollout.described() or {})["trouble"]
    assert b"evergreen_exposed_failures" in generate_latest(metrics.registry)
    monkeypatch.undo()
    rollout.refresh()
    assert rollout.described() is None


# The shadow.


def test_the_shadow_says_what_the_waiting_version_would_have_said(
    here: Settings, made: Made, tmp_path: Path
) -> None:
    waiting(other_model(made, tmp_path, 150), here, "a2", shadow=True)
    holder, rollout = looking(here)
    assert holder.current is not None
    rows = rows_of(made.frame.head(30), holder.current.spec)
    assert rollout.chosen("r1", holder.current)[1] == "champion"
    rollout.shadow("r1", [{**row, "event_id": None, "event_time": None} for row in rows], NOW)
    rollout.shadow("r2", [{**rows[0], "plan": "gold"}, rows[1]], NOW)  # its contract knows no gold
    rollout.close()
    kept = {row.prediction_id: row for row in in_shadow(here)}
    assert len(kept) == rollout.shade.kept == 32
    offline = rollout._lane.served.model.predict_proba(made.frame.head(30))  # type: ignore[union-attr]
    assert [kept[f"r1/{place}"].score for place in range(30)] == offline.tolist()
    assert {row.version for row in kept.values()} == {2}
    assert all(row.latency_ms > 0 for row in kept.values())
    assert (kept["r2/0"].error, kept["r2/0"].prediction) == ("contract", None)
    assert kept["r2/1"].score == offline.tolist()[1]
    assert predictions.read(open_store(here), "churn", EVER).empty  # nobody was given any of it
    assert (rollout.described() or {})["shadow_rows"] == 32


def test_a_shadow_that_cannot_keep_up_drops_and_counts_and_never_waits(
    here: Settings, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting(made, here, "a2", shadow=True)
    _, rollout = looking(here)
    slow = shading.answered

    def slowly(*given: Any) -> Any:
        time.sleep(0.2)
        return slow(*given)

    monkeypatch.setattr(shading, "answered", slowly)
    began = time.perf_counter()
    for number in range(12):
        rollout.shadow(f"r{number}", [ROW] * 500, NOW)
    assert time.perf_counter() - began < 0.1
    assert rollout.shade.dropped == 12 * 500 - MOST_WAITING
    rollout.close()
    rollout.shadow("late", [ROW], NOW)
    assert rollout.shade.dropped == 12 * 500 - MOST_WAITING + 1
    assert rollout.shade.kept == len(in_shadow(here)) == MOST_WAITING


def test_the_shadow_outlives_a_store_that_is_away_for_a_while(
    here: Settings, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting(made, here, "a2", shadow=True)
    _, rollout = looking(here)
    real, calls = exposures.keep_shadows, []

    def away_at_first(*given: Any) -> int:
        calls.append(1)
        if len(calls) == 1:
            raise OSError("gone")
        return real(*given)

    monkeypatch.setattr(exposures, "keep_shadows", away_at_first)
    rollout.shadow("r1", [ROW], NOW)
    deadline = time.monotonic() + 20
    while not calls:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    rollout.shadow("r2", [ROW], NOW)
    rollout.close()
    assert [row.prediction_id for row in in_shadow(here)] == ["r1/0", "r2/0"]
    assert rollout.shade.dropped == 0


# Through the app.


def test_callers_of_a_canary_get_its_answers_and_are_told_which_version_gave_them(
    here: Settings, made: Made, tmp_path: Path
) -> None:
    waiting(other_model(made, tmp_path, 150), here, "a2", canary=0.3, shadow=True)
    app = create_app(["churn"], here, poll_seconds=0.05)
    with running(app) as client:
        given = [
            client.post("/predict/churn", json={"rows": [ROW]}, headers={"X-Request-ID": f"r{number}"}).json()
            for number in range(60)
        ]
        said = {
            version: {str(one["answers"]) for one in given if one["version"] == version} for version in (1, 2)
        }
        assert all(len(one) == 1 for one in said.values())  # the same row: one answer of each
        assert said[1] != said[2]
        version = app.state.service.rollouts["churn"]._lane.served
        for _ in range(version.spec.serving.canary_max_errors):
            app.state.service.rollouts["churn"].failed(version, NoAnswer())
        after = {client.post("/predict/churn", json={"rows": [ROW]}).json()["version"] for _ in range(20)}
        assert after == {1}
    live = exposures.live_rows(
        open_store(here), "churn", Window(NOW - timedelta(hours=1), NOW + timedelta(hours=1)), {1, 2}
    )
    routes_of = live.groupby("version")["route"].unique().map(list).to_dict()
    assert routes_of == {1: ["champion"], 2: ["canary"]}
    by_canary = sum(one["version"] == 2 for one in given)
    assert (live["version"] == 2).sum() == by_canary
    assert len(in_shadow(here)) == 80 - by_canary  # the shadow goes on, and sees what the champion answered


def test_a_canary_that_breaks_costs_no_caller_an_answer(
    here: Settings, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting(made, here, "a2", canary=0.5)
    app = create_app(["churn"], here, poll_seconds=0.05)
    with running(app) as client:
        lane = app.state.service.rollouts["churn"]._lane

        def breaks(*_: object) -> Any:
            raise ZeroDivisionError

        monkeypatch.setattr(lane.served.scorer, "answers", breaks)
        answers = [client.post("/predict/churn", json={"rows": [ROW]}) for _ in range(40)]
        assert {one.status_code for one in answers} == {200}
        assert {one.json()["version"] for one in answers} == {1}
        deadline = time.monotonic() + 20
        while len(events(here)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert [row[2] for row in events(here)] == ["began", "returned"]

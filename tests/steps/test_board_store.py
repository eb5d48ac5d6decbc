"""What a board reads from the store, on either database, and pages as they are found again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import Engine

from tasks.board import write_board
from tasks.core.board.facts import Asked
from tasks.core.kpi.measure import scorecard_of
from tasks.core.window import Window
from tasks.settings import Settings
from tasks.store import checks, ledger
from tasks.store.board import MOST_WINDOWS, asked_in, board_facts, known_models
from tasks.store.commits import commit_time
from tasks.store.engine import open_store
from tasks.store.facts import gather, prices_of
from tasks.store.pages import drift_reports, is_page, read_page
from tasks.store.provenance import code_state
from tasks.store.schema import checks as checks_table
from tasks.store.schema import labels, predictions
from tasks.store.schema_serving import flow_runs
from tasks.store.schema_versions import versions
from tasks.store.traffic import write_traffic
from tests.boards import DAY, NOW, T0, fill, more, week
from tests.make import make_spec
from tests.stores import BOTH, fresh_store


@pytest.fixture(params=BOTH)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    with fresh_store(request.param, request, tmp_path) as found:
        yield found


@pytest.fixture
def here(settings: Settings) -> Settings:
    return settings


# What the store gives, on either database


def test_the_newest_conclusion_of_each_window_counts_and_every_kind_is_read(
    engine: Engine, here: Settings
) -> None:
    fill(engine)
    more(engine)
    checks.record(
        engine, model="churn", kind="performance", window=week(1), version=1, outcome="ok",
        summary={"value": 0.79, "promise": 0.8, "metric": "roc_auc"},
    )  # fmt: skip
    board = board_facts(engine, "churn", as_of=NOW, settings=here)
    assert [one.number("value") for one in board.of("performance")] == [0.8, 0.79, 0.8, 0.8]
    assert [len(board.of(kind)) for kind in ("drift", "service", "labels", "budget")] == [4, 1, 1, 1]
    assert board.of("drift")[0].reason == "calm"
    assert board.of("drift")[0].summary == {}  # it may be large, and nobody reads it here
    assert board.metric == "roc_auc"
    assert [one.cause for one in board.open_troubles] == ["decay"]
    assert len(board.lines) <= MOST_WINDOWS


def test_a_record_names_the_decision_of_its_run(engine: Engine, here: Settings) -> None:
    fill(engine)
    decision = {"id": "skip-1", "kind": "SKIP", "cause": "none", "reasons": ["calm"], "evidence": {}}
    ledger.record_decision(engine, decision, model="churn", at=NOW, run_id="run-2")
    found = board_facts(engine, "churn", as_of=NOW, settings=here).of("performance")
    assert [one.decision_id for one in found] == ["", "", "skip-1", ""]


def test_every_model_that_anything_is_known_of_is_on_the_fleet(engine: Engine) -> None:
    fill(engine, model="checked", windows=1)
    with engine.begin() as connection:
        connection.execute(predictions.insert(), [prediction("served", 0, 1, T0)])
    assert known_models(engine) == ["checked", "served"]


def prediction(model: str, number: int, version: int, at: datetime, said: object = 1) -> dict[str, Any]:
    return {
        "model": model, "prediction_id": f"{model}-{number}", "version": version, "row_key": f"k{number}",
        "event_time": at, "served_at": at, "prediction": said,
    }  # fmt: skip


def test_money_and_speed_come_from_the_ledgers(engine: Engine) -> None:
    fill(engine)
    commit = code_state().commit
    assert commit
    rows = [prediction("churn", n, 1 + n % 2, T0 + n * DAY, n % 2) for n in range(4)]
    truth = [{"model": "churn", "row_key": f"k{n}", "label": 1, "known_at": T0 + 9 * DAY} for n in range(4)]
    ran = {"model": "churn", "flow": "retrain", "run_id": "r", "as_of": T0, "started_at": T0, "seconds": 60.0}
    gate = {"value": {"difference": 0.5, "per_row": 1.0}}
    with engine.begin() as connection:
        connection.execute(predictions.insert(), rows)
        connection.execute(labels.insert(), truth)
        connection.execute(flow_runs.insert(), {**ran, "outcome": "Completed"})
        connection.execute(versions.insert(), [version(1, commit, {}), version(2, commit, gate)])
    spec = make_spec(
        gate={"value": {"outcomes": {"1>1": 2.0, "1>0": -1.0}, "currency": "EUR"}}, costs={"per_hour": 60.0}
    )
    facts = gather(engine, "churn", None, as_of=NOW, prices=prices_of(spec))
    card = scorecard_of(facts)
    assert card.value("worth") == 2 * 2.0 - 2 * 1.0
    assert card.value("cost") == 1.0
    assert card.value("gain") == 2 * 0.5  # two answers of version 2, at half an EUR over version 1
    assert card.value("roi") == 0.0
    (first,) = facts.outcomes
    assert (first.commit, first.committed_at) == (commit, commit_time(commit))
    assert not gather(engine, "churn", None, as_of=NOW).answered  # nobody asked for money


def version(number: int, commit: str, gate: dict[str, Any]) -> dict[str, Any]:
    known = dict.fromkeys(("digest", "run_id", "attempt", "decision_id", "cause", "metric"), "x")
    moments = dict.fromkeys(("created", "registered_at", "window_start", "window_end", "cut"), T0)
    return {
        **known, **moments, "model": "churn", "number": number, "git_commit": commit, "dirty": False,
        "snapshot": {}, "gate": gate, "params": {},
    }  # fmt: skip


def test_a_review_reads_every_window_of_its_month_and_its_requests_from_the_traffic(
    engine: Engine, here: Settings
) -> None:
    hour = timedelta(hours=1)
    rows = [
        {
            **{"model": "churn", "kind": "service", "revision": 1, "version": 1, "outcome": "ok"},
            **{"window_start": T0 + n * hour, "window_end": T0 + (n + 1) * hour, "summary": {}, "at": T0},
        }
        for n in range(MOST_WINDOWS + 20)
    ]
    with engine.begin() as connection:
        connection.execute(checks_table.insert(), rows)
    told = {"model": "churn", "instance": "one", "rows": 1, "lost": 0, "latency": {}}
    minutes = [(T0 - hour, 200, 9), (T0, 200, 70), (T0, 422, 20), (T0 + hour, 404, 5), (T0 + hour, 503, 5)]
    write_traffic(
        engine,
        [
            {**told, "minute": minute, "version": int(status < 400), "status": status, "requests": requests}
            for minute, status, requests in minutes
        ],
    )
    until = T0 + (MOST_WINDOWS + 20) * hour
    kept = board_facts(engine, "churn", as_of=until, settings=here, reports=False)
    assert len(kept.lines) == MOST_WINDOWS
    whole = board_facts(engine, "churn", as_of=until, since=T0 + 2 * hour, settings=here, reports=False)
    assert len(whole.lines) == MOST_WINDOWS + 18
    assert asked_in(engine, "churn", Window(T0, T0 + DAY)) == Asked(100, refused=25, failed=5)


def test_what_the_store_does_not_know_of_a_commit_is_not_made_up() -> None:
    assert commit_time("0" * 40) is None
    assert commit_time("--help") is None
    assert commit_time("HEAD") is None


# Pages as they are found again


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("churn", "../../mask.key"), ("..", "board.html"), ("churn", "drift/../../x.html"),
        ("churn/..", "board.html"), ("churn", "board.html\n"), ("churn", "/etc/passwd"), ("", "board.html"),
        ("churn", "drift/20260105T000000Z.html"), ("_other", "board.html"), ("churn", "x.html"),
        ("churn\n", "board.html"),
    ],
)  # fmt: skip
def test_no_name_leads_out_of_the_folder_of_reports(model: str, name: str, here: Settings) -> None:
    assert not is_page(model, name)
    assert read_page(model, name, here) is None


def test_a_link_that_leads_out_of_the_folder_is_not_followed(here: Settings, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    folder = Path(here.artifact_root, "reports", "churn")
    folder.mkdir(parents=True)
    (folder / "board.html").symlink_to(secret)
    assert read_page("churn", "board.html", here) is None


def test_kept_pages_are_found_again_and_missing_ones_are_none(here: Settings) -> None:
    fill(open_store(here))
    write_board.fn(make_spec(), as_of=NOW, settings=here)
    found = read_page("churn", "board.html", here)
    assert found is not None
    assert b"Score over time" in found
    assert read_page("churn", "review-2026-10.html", here) is None
    assert drift_reports("churn", here) == frozenset()

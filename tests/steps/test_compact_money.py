"""Predictions that moved to files still count: what answers were worth, and what is still needed stays."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import Engine

from tasks.compact import compact_log, kept_from
from tasks.core.errors import StoreError
from tasks.core.kpi.facts import Answered
from tasks.core.kpi.measure import scorecard_of
from tasks.settings import Settings
from tasks.store import exposures, partitions
from tasks.store.engine import open_store
from tasks.store.facts import gather, prices_of
from tasks.store.schema import labels, predictions
from tests.make import make_spec
from tests.stores import BOTH, fresh_url, place

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
NOW = START + 60 * DAY
SPEC = make_spec(
    serving={"keep": "40d", "keep_files": "50d"},
    window={"training": "28d", "check": "1d"},
    label={"column": "churned", "maturity": "2d"},
    gate={"value": {"outcomes": {"1>1": 3.0, "0>0": 1.0, "0>1": -2.0}}},
    costs={"per_month": 100.0},
)


@pytest.fixture(params=BOTH)
def here(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    with fresh_url(request.param, request, tmp_path) as url:
        yield place(url, tmp_path)


def fill(engine: Engine, *, days: int = 60, route: str | None = None) -> None:
    """Log four predictions a day; three of four get a label, every third label is corrected."""
    rows, truth = [], []
    for n in range(days * 4):
        at = START + n * DAY / 4
        said = float(n % 2) if n % 3 else bool(n % 2)  # 1.0, True and 1 are texts of their own or the same
        rows.append(
            {
                **{"model": "churn", "prediction_id": f"p{n}", "version": 1 + n // 100, "row_key": f"k{n}"},
                **{"event_time": at, "served_at": at, "prediction": said, "route": route},
            }
        )
        known = [n % 5 % 2, 1][: 1 + (n % 3 == 0)] if n % 4 else []
        truth += [
            {
                "model": "churn",
                "row_key": f"k{n}",
                "label": label,
                "known_at": at + DAY + n * later * DAY / 1e6,
            }
            for later, label in enumerate(known)
        ]
    with engine.begin() as connection:
        connection.execute(predictions.insert(), rows)
        connection.execute(labels.insert(), truth)


def counted(here: Settings, since: datetime | None = START, as_of: datetime = NOW) -> tuple[Answered, ...]:
    facts = gather(open_store(here), "churn", since, as_of=as_of, prices=prices_of(SPEC), settings=here)
    return facts.answered


def compact(here: Settings, spec: Any = SPEC, as_of: datetime = NOW) -> Any:
    return compact_log.fn(spec, as_of=as_of, dry_run=False, settings=here)


def test_money_is_the_same_before_and_after_days_moved_and_their_files_were_dropped(here: Settings) -> None:
    fill(open_store(here))
    since = (START, START + 7 * DAY, START + 3 * DAY + timedelta(hours=6), START + 30 * DAY)
    before = [counted(here, one) for one in since]
    keys = {(one.version, one.label, one.prediction) for one in before[0]}
    assert sum(one.rows for one in before[0]) == 177, "of the last day labels are not known yet"
    assert {("0", "1"), ("1", "True")} <= {key[1:] for key in keys}
    done = compact(here)
    assert (done.rows, done.dropped_rows) == (80, 40)
    assert [counted(here, one) for one in since] == before
    assert compact(here).rows == 0
    assert counted(here) == before[0]
    parts = partitions.of_window(open_store(here), "churn")
    assert {one.state for one in parts} == {"moved", "dropped"}, "counts are no part of the log"


def test_counts_survive_a_death_between_file_and_database_and_their_loss_is_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Died(BaseException):
        pass

    def died(*_: object) -> int:
        raise Died

    fill(open_store(settings))
    before = counted(settings)
    with monkeypatch.context() as patch:
        patch.setattr(partitions, "_delete", died)
        with pytest.raises(Died):
            compact(settings)
    assert counted(settings) == before
    compact(settings)
    assert counted(settings) == before
    facts = gather(open_store(settings), "churn", START, as_of=NOW, prices=prices_of(SPEC), settings=settings)
    assert scorecard_of(facts).value("worth") == pytest.approx(sum(worth(one) for one in before))
    next(Path(settings.artifact_root).rglob("*.sums.json")).unlink()
    with pytest.raises(StoreError):
        counted(settings)


def worth(one: Answered) -> float:
    return one.rows * prices_of(SPEC).worth.get((one.label, one.prediction), 0.0)


def test_what_a_retraining_for_new_labels_would_take_stays() -> None:
    window = {"training": "90d", "check": "1d"}
    plain = make_spec(serving={"keep": "1d"}, window=window)
    asked = make_spec(serving={"keep": "1d"}, window=window, retrain={"min_new_labels": 100})
    assert kept_from(plain, NOW) == NOW - (3 + 30 + 2) * DAY
    assert kept_from(asked, NOW) == NOW - (90 + 2) * DAY


@pytest.mark.parametrize(("event", "rows"), [("began", 36), ("returned", 36), ("ended", 80)])
def test_what_was_answered_since_an_exposure_began_stays_until_it_ends(
    settings: Settings, event: str, rows: int
) -> None:
    engine = open_store(settings)
    fill(engine, route="champion")
    exposures.begin(engine, "churn", 2, mode="canary", share=0.1, actor="app", at=START + 9 * DAY)
    if event == "returned":
        exposures.send_back(engine, "churn", 2, reason="worse", actor="app", at=START + 11 * DAY)
    if event == "ended":
        exposures.end_others(engine, "churn", None, actor="app", at=START + 11 * DAY)
    assert compact(settings).rows == rows

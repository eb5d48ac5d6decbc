"""A decision and what has to be sent of it are written together, and sent by one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tasks.core.policy.decision import Decision
from tasks.store import ledger, outbox
from tasks.store.engine import close_stores, open_store
from tests.faults.retraining import in_child
from tests.stores import BOTH, fresh_url, place

NOW = datetime(2026, 1, 5, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
TRAIN = Decision("TRAIN", "decay", ("score fell",), "train-1")


@pytest.fixture(params=BOTH)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request.param, request, tmp_path) as url:
        yield url


@pytest.fixture
def store(url: str, tmp_path: Path) -> Engine:
    return open_store(place(url, tmp_path))


def written(store: Engine, decision: Decision = TRAIN, **over: Any) -> ledger.DecisionRow:
    return ledger.record_decision(store, decision, **{"model": "churn", "at": NOW, "now": NOW, **over})


def found(store: Engine) -> outbox.Asked:
    row = outbox.find(store, "churn", "train-1")
    assert row
    return row


def counts(store: Engine) -> tuple[int, int]:
    with store.connect() as connection:
        return tuple(
            connection.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one()
            for table in ("decisions", "outbox")
        )  # type: ignore[return-value]


def test_a_decision_to_train_is_asked_for_once_however_often_it_is_reached(store: Engine) -> None:
    written(store)
    written(store, now=NOW + MINUTE)
    written(store, Decision("TRAIN", "decay", ("other words",), "train-1"), now=NOW + 2 * MINUTE)
    assert counts(store) == (2, 1)
    assert found(store) == outbox.Asked("churn", "train-1", NOW, None, 0)
    first = ledger.decided(store, "churn", "train-1")
    assert first
    assert (first.revision, first.reasons) == (1, ("score fell",))
    assert ledger.decided(store, "spend", "train-1") is None


@pytest.mark.parametrize("kind", ["SKIP", "BLOCK"])
def test_a_decision_not_to_train_asks_for_nothing(store: Engine, kind: Any) -> None:
    written(store, Decision(kind, "drift", ("no",), "x"))
    assert counts(store) == (1, 0)


def test_a_failure_between_the_two_rows_leaves_neither(
    store: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "_decisions", _failing)  # called after the outbox, before the decision
        with pytest.raises(OSError, match="disk"):
            written(store)
    assert counts(store) == (0, 0)
    with monkeypatch.context() as patch:
        patch.setattr(outbox, "put", _failing)
        with pytest.raises(OSError, match="disk"):
            written(store)
    assert counts(store) == (0, 0)
    written(store)
    assert counts(store) == (1, 1)


def _failing(*args: Any, **kwargs: Any) -> Any:
    raise OSError("disk")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize(("die", "left"), [("before", (0, 0)), ("after", (1, 1))])
def test_a_process_killed_around_the_commit_leaves_both_rows_or_neither(
    url: str, store: Engine, tmp_path: Path, die: str, left: tuple[int, int]
) -> None:
    assert in_child(_killed, url, tmp_path, die) == -signal.SIGKILL
    assert counts(store) == left


def _killed(url: str, folder: Path, die: str) -> None:
    close_stores()
    store = open_store(place(url, folder))

    def dying(*args: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if die == "before":  # both rows are written, neither is committed
        sa.event.listen(store, "commit", dying)
    written(store)
    dying()


def test_of_many_that_saw_it_unsent_one_sends_it(store: Engine) -> None:
    written(store)
    seen = found(store)
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda _: outbox.take(store, seen, NOW + MINUTE), range(8)))
    assert sorted(taken) == [False] * 7 + [True]
    assert found(store) == outbox.Asked("churn", "train-1", NOW, NOW + MINUTE, 1)


def test_what_could_not_be_sent_stands_as_before_unless_another_sent_it_since(store: Engine) -> None:
    written(store)
    seen = found(store)
    outbox.take(store, seen, NOW + MINUTE)
    outbox.give_back(store, seen)
    assert found(store) == seen

    outbox.take(store, seen, NOW + MINUTE)
    assert outbox.take(store, found(store), NOW + 9 * MINUTE)
    outbox.give_back(store, seen)
    assert found(store) == outbox.Asked("churn", "train-1", NOW, NOW + 9 * MINUTE, 2)


def test_unanswered_is_what_has_no_outcome_in_the_ledger_oldest_first(store: Engine) -> None:
    for number, model in enumerate(["churn", "churn", "spend", "churn"]):
        decision = Decision("TRAIN", "drift", ("moved",), f"d{number}")
        written(store, decision, model=model, now=NOW + number * MINUTE)
    for model, answered in (("churn", "d1"), ("spend", "d3")):  # d3 is not spend's: that answers nothing
        ledger.record(
            store, model=model, decision_id=answered, action="kept", from_version=1, to_version=2,
            actor="retrain", reason="no better", at=NOW,
        )  # fmt: skip

    def left(model: str, since: datetime = NOW) -> list[str]:
        return [row.decision_id for row in outbox.unanswered(store, model, since=since)]

    assert (left("churn"), left("spend")) == (["d0", "d3"], ["d2"])
    assert left("churn", NOW + MINUTE) == ["d3"]

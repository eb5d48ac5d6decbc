from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tasks.core.messages import Message, opening
from tasks.store import alerts, deliveries
from tasks.store.deliveries import GIVEN_UP, LEASE, MOST_TRIES, NO_ANSWER, Delivery
from tasks.store.engine import open_store, writing
from tests.stores import BOTH, fresh_store, place

T0 = datetime(2026, 3, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SAID = opening("churn", "data", "critical", "column x is gone", key="key-1")


@pytest.fixture(params=BOTH)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    with fresh_store(request.param, request, tmp_path) as engine:
        yield engine


@pytest.fixture
def sqlite(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    with fresh_store("sqlite", request, tmp_path) as engine:
        yield engine


def begin(store: Engine, *channels: str, at: datetime = T0) -> alerts.Incident:
    incident, is_new = alerts.open_incident(
        store, model="churn", cause="data", tier="critical", message="gone", at=at,
        contents=dict.fromkeys(channels, SAID),
    )  # fmt: skip
    assert is_new
    return incident


def end(store: Engine, at: datetime) -> list[Delivery]:
    ended = alerts.end_incident(store, "churn", "data", at)
    assert ended is not None
    return deliveries.about(store, [deliveries.resolved(ended.id)])


def one(store: Engine, channel: str, topic: str) -> Delivery:
    return next(row for row in deliveries.about(store, [topic]) if row.channel == channel)


def test_opening_writes_the_incident_and_a_row_per_channel_and_a_second_opening_writes_nothing(
    store: Engine,
) -> None:
    incident = begin(store, "slack/ml", "teams/ml")
    again, is_new = alerts.open_incident(
        store, model="churn", cause="data", tier="critical", message="gone", at=T0 + MINUTE,
        contents={"slack/ml": SAID, "email/x": SAID},
    )  # fmt: skip
    assert (again.id, is_new) == (incident.id, False)
    rows = deliveries.due(store, "churn", T0)
    assert [(row.channel, row.tries, row.done_at) for row in rows] == [
        ("slack/ml", 0, None),
        ("teams/ml", 0, None),
    ]
    assert Message.from_dict(rows[0].content) == SAID
    assert deliveries.due(store, "fraud", T0) == []
    assert deliveries.due(store, "churn", T0 - MINUTE) == []


def test_what_fails_between_the_incident_and_its_rows_leaves_neither(store: Engine, monkeypatch) -> None:
    def no(*args: object, **options: object) -> int:
        raise OSError("the disk is full")

    monkeypatch.setattr(deliveries, "write", no)
    with pytest.raises(OSError, match="full"):
        begin(store, "slack/ml")
    monkeypatch.undo()
    assert alerts.history(store, "churn") == []
    begin(store, "slack/ml")
    assert len(deliveries.due(store, "churn", T0)) == 1


def test_a_row_is_claimed_by_one_of_many_at_once(store: Engine) -> None:
    begin(store, *(f"slack/{n}" for n in range(6)))
    rows, mine = deliveries.due(store, "churn", T0), []
    barrier = threading.Barrier(8)

    def take() -> None:
        barrier.wait()
        mine.extend(row.channel for row in rows if deliveries.claim(store, row, T0) is None)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(mine) == sorted(row.channel for row in rows)
    assert deliveries.due(store, "churn", T0) == [], "claimed for a while"


def test_a_claim_of_a_process_that_died_runs_out(sqlite: Engine, tmp_path: Path) -> None:
    begin(sqlite, "slack/ml")
    row = deliveries.due(sqlite, "churn", T0)[0]
    url = sqlite.url.render_as_string(hide_password=False)
    child = os.fork()
    if child == 0:
        claimed = deliveries.claim(open_store(place(url, tmp_path)), row, T0)
        os._exit(0 if claimed is None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert deliveries.claim(sqlite, row, T0) == ""
    assert deliveries.due(sqlite, "churn", T0 + LEASE - MINUTE) == []
    again = deliveries.due(sqlite, "churn", T0 + LEASE)
    assert [row.tries for row in again] == [1]
    assert deliveries.claim(sqlite, again[0], T0 + LEASE) is None


def test_what_failed_waits_ever_longer_and_is_given_up_in_the_end(sqlite: Engine) -> None:
    incident = begin(sqlite, "slack/ml")
    now, waits, last = T0, [], []
    while rows := deliveries.due(sqlite, "churn", now):
        assert deliveries.claim(sqlite, rows[0], now) is None
        last.append(deliveries.failed(sqlite, rows[0], now, "NotificationError 500"))
        row = deliveries.about(sqlite, [deliveries.opened(incident.id)])[0]
        if row.done_at is None:
            waits.append((row.next_at - now) / MINUTE)
        assert deliveries.due(sqlite, "churn", row.next_at - timedelta(seconds=1)) == []
        now = row.next_at
    assert waits[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert len(waits) == MOST_TRIES - 1
    assert last == [False] * (MOST_TRIES - 1) + [True]
    assert (row.delivered, row.error) == (False, f"{GIVEN_UP} after 24 tries: NotificationError 500")


def test_a_row_whose_senders_all_died_is_given_up_too(sqlite: Engine) -> None:
    begin(sqlite, "slack/ml")
    for n in range(MOST_TRIES):
        now = T0 + n * LEASE
        assert deliveries.claim(sqlite, deliveries.due(sqlite, "churn", now)[0], now) is None
    now = T0 + MOST_TRIES * LEASE
    row = deliveries.due(sqlite, "churn", now)[0]
    assert deliveries.claim(sqlite, row, now) == f"{GIVEN_UP} after 24 tries"
    assert deliveries.claim(sqlite, row, now) == "", "said once"
    assert deliveries.due(sqlite, "churn", now + LEASE) == []


def test_a_late_failure_does_not_undo_what_another_sender_did(sqlite: Engine) -> None:
    incident = begin(sqlite, "slack/ml")
    first = deliveries.due(sqlite, "churn", T0)[0]
    assert deliveries.claim(sqlite, first, T0) is None
    later = T0 + LEASE
    second = deliveries.due(sqlite, "churn", later)[0]
    assert deliveries.claim(sqlite, second, later) is None
    assert not deliveries.failed(sqlite, first, later, "OSError")
    deliveries.delivered(sqlite, second, later)
    row = one(sqlite, "slack/ml", deliveries.opened(incident.id))
    assert (row.delivered, row.tries) == (True, 2)
    assert deliveries.claim(sqlite, second, later + LEASE) == "", "what arrived is sent no more"


def test_the_end_is_told_to_those_who_were_told_of_the_beginning(store: Engine) -> None:
    incident = begin(store, "told/x", "failed/x", "waiting/x")
    topic = deliveries.opened(incident.id)
    for channel in ("told/x", "failed/x"):
        assert deliveries.claim(store, one(store, channel, topic), T0) is None
    deliveries.delivered(store, one(store, "told/x", topic), T0)
    failed = one(store, "failed/x", topic)
    with writing(store) as connection:
        seen = deliveries.rows_about(connection, [topic])
    assert failed in seen
    deliveries.failed(store, Delivery(**{**vars(failed), "tries": 0}), T0, "NotificationError 500")

    rows = end(store, T0 + MINUTE)
    assert [row.channel for row in rows] == ["told/x"]
    said = Message.from_dict(rows[0].content)
    assert (said.key, said.ends, said.subject) == ("key-1", True, "[resolved] churn: data")
    assert [row.channel for row in deliveries.due(store, "churn", T0 + LEASE)] == ["told/x"]
    for channel in ("failed/x", "waiting/x"):
        row = one(store, channel, topic)
        assert (row.done_at, row.error) == (
            T0 + MINUTE,
            "the incident was over before this channel was told of it",
        )


@pytest.mark.parametrize("end_of_flight", ["arrived", "failed", "died", "no answer"])
def test_the_end_waits_for_a_beginning_that_is_on_its_way(sqlite: Engine, end_of_flight: str) -> None:
    incident = begin(sqlite, "slack/ml")
    first = deliveries.due(sqlite, "churn", T0)[0]
    assert deliveries.claim(sqlite, first, T0) is None
    [row] = end(sqlite, T0 + MINUTE)
    assert row.next_at == T0 + LEASE
    assert deliveries.due(sqlite, "churn", T0 + MINUTE) == []
    match end_of_flight:
        case "arrived":
            deliveries.delivered(sqlite, first, T0 + MINUTE)
        case "failed":
            deliveries.failed(sqlite, first, T0 + MINUTE, "NotificationError 500")
        case "no answer":
            deliveries.failed(sqlite, first, T0 + MINUTE, NO_ANSWER)
    later = T0 + 2 * LEASE
    claimed = {
        waiting.topic.split(":")[2]: deliveries.claim(sqlite, waiting, later)
        for waiting in deliveries.due(sqlite, "churn", later)
    }
    if end_of_flight == "failed":
        assert None not in claimed.values(), "who was not told of the beginning is not told of the end"
    else:  # it arrived, or may have
        assert claimed["resolved"] is None
        assert claimed.get("open", "") is not None, "the beginning of what is over is not told again"
    assert one(sqlite, "slack/ml", deliveries.opened(incident.id)).done_at is not None


def test_what_waits_for_a_channel_that_is_gone_goes_to_the_others_once(sqlite: Engine) -> None:
    incident = begin(sqlite, "slak/typo", "teams/ml")
    topic = deliveries.opened(incident.id)
    row = one(sqlite, "slak/typo", topic)
    assert deliveries.readdress(sqlite, row, ["slack/ml", "teams/ml"], T0 + MINUTE)
    assert not deliveries.readdress(sqlite, row, ["email/x"], T0 + MINUTE), "it went already"
    rows = deliveries.about(sqlite, [topic])
    assert [(row.channel, row.done_at is None) for row in rows] == [
        ("slak/typo", False), ("teams/ml", True), ("slack/ml", True),
    ]  # fmt: skip


def test_nothing_of_an_error_but_what_was_given_is_kept(sqlite: Engine) -> None:
    begin(sqlite, "slack/ml")
    row = deliveries.due(sqlite, "churn", T0)[0]
    deliveries.claim(sqlite, row, T0)
    deliveries.failed(sqlite, row, T0, "x" * 5000)
    with sqlite.connect() as connection:
        kept = connection.execute(sa.text("SELECT error FROM deliveries")).scalar_one()
    assert kept == "x" * 300

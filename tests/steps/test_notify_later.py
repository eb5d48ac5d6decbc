from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime, timedelta

import pytest

from tasks.clock import now_or
from tasks.notify import Delivered, Told, deliver_pending, settle, tell
from tasks.settings import Settings
from tasks.store import alerts, deliveries
from tasks.store.engine import open_store
from tests.make import make_spec
from tests.played import Channel, play_channels

AT = datetime(2026, 3, 1, tzinfo=UTC)
SPEC = make_spec(
    alerts={
        "critical": ["pagerduty/ops", "slack/ml"],
        "warning": ["slack/ml", "teams/ml", "webhook/x"],
        "info": [],
    }
)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def channels(monkeypatch: pytest.MonkeyPatch) -> dict[str, Channel]:
    return play_channels(monkeypatch)


def later(minutes: float) -> datetime:
    return now_or(None) + minutes * MINUTE


def rows(settings: Settings) -> list[deliveries.Delivery]:
    engine = open_store(settings)
    topics = [
        topic(incident.id)
        for incident in alerts.history(engine, "churn")
        for topic in (deliveries.opened, deliveries.resolved)
    ]
    return deliveries.about(engine, topics)


def test_what_failed_is_sent_later_once(channels, settings: Settings, caplog) -> None:
    channels["slack/ml"].trouble = OSError("no route to host")
    tell.fn(SPEC, "warning", "decay", "score fell", as_of=AT, settings=settings)
    assert deliver_pending.fn(SPEC, as_of=later(0.5), settings=settings) == Delivered(), "too soon"
    assert deliver_pending.fn(SPEC, as_of=later(1.5), settings=settings) == Delivered((), ("slack/ml",))
    channels["slack/ml"].trouble = None
    with caplog.at_level(logging.INFO):
        assert deliver_pending.fn(SPEC, as_of=later(5), settings=settings) == Delivered(("slack/ml",))
    assert "of 1 waiting messages 1 arrived, 0 failed, 0 were given up" in caplog.text
    assert deliver_pending.fn(SPEC, as_of=later(600), settings=settings) == Delivered()
    assert channels["slack/ml"].firsts == ["score fell"]
    assert len(channels["teams/ml"].got) == 1


def test_a_message_that_never_arrives_is_given_up_loudly(channels, settings: Settings, caplog) -> None:
    channels["pagerduty/ops"].trouble = OSError("no route to host")
    tell.fn(SPEC, "critical", "data", "column x is gone", as_of=AT, settings=settings)
    said, tries = [], 1
    while not said:
        tries += 1
        said = list(deliver_pending.fn(SPEC, as_of=later(61 * tries), settings=settings).given_up)
        assert tries <= 24
    assert (said, tries) == (["pagerduty/ops"], 24)
    loud = [record.getMessage() for record in caplog.records if record.levelname == "CRITICAL"]
    assert loud[-1].startswith("churn: [critical] churn: data was never told to channel pagerduty/ops")
    assert deliver_pending.fn(SPEC, as_of=later(10_000), settings=settings) == Delivered()


def test_an_incident_nobody_could_be_told_of_stays_open_and_is_told_later(
    channels, settings: Settings
) -> None:
    for name in ("pagerduty/ops", "slack/ml"):
        channels[name].trouble = OSError("no route to host")
    told = tell.fn(SPEC, "critical", "data", "text", as_of=AT, settings=settings)
    assert told == Told(True, (), ("pagerduty/ops", "slack/ml"))
    assert not tell.fn(SPEC, "critical", "data", "text", as_of=AT, settings=settings).is_new
    channels["slack/ml"].trouble = None
    found = deliver_pending.fn(SPEC, as_of=later(2), settings=settings)
    assert found == Delivered(("slack/ml",), ("pagerduty/ops",))


def test_who_was_not_told_of_the_beginning_is_not_told_of_the_end(channels, settings: Settings) -> None:
    channels["slack/ml"].trouble = OSError("no route to host")
    tell.fn(SPEC, "critical", "data", "text", as_of=AT, settings=settings)
    channels["slack/ml"].trouble = None
    assert settle.fn(SPEC, "data", as_of=AT, settings=settings)
    assert channels["pagerduty/ops"].subjects == ["[critical] churn: data", "[resolved] churn: data"]
    assert deliver_pending.fn(SPEC, as_of=later(600), settings=settings) == Delivered()
    assert channels["slack/ml"].got == []


def test_an_end_that_could_not_be_told_is_told_later(channels, settings: Settings) -> None:
    tell.fn(SPEC, "critical", "data", "text", as_of=AT, settings=settings)
    channels["pagerduty/ops"].trouble = OSError("no route to host")
    assert settle.fn(SPEC, "data", as_of=AT, settings=settings)
    channels["pagerduty/ops"].trouble = None
    assert deliver_pending.fn(SPEC, as_of=later(2), settings=settings) == Delivered(("pagerduty/ops",))
    assert channels["pagerduty/ops"].subjects == ["[critical] churn: data", "[resolved] churn: data"]


def test_the_beginning_and_the_end_of_an_incident_carry_one_key_and_two_incidents_two(
    channels, settings: Settings
) -> None:
    for _ in range(2):
        tell.fn(SPEC, "critical", "data", "text", as_of=AT, settings=settings)
        settle.fn(SPEC, "data", as_of=AT, settings=settings)
    keys = [row.content["key"] for row in rows(settings) if row.channel == "pagerduty/ops"]
    assert len(keys) == 4
    assert keys[0] == keys[1] != keys[2] == keys[3]


def test_of_two_processes_that_deliver_at_once_one_sends(channels, settings: Settings) -> None:
    channels["slack/ml"].trouble = OSError("no route to host")
    for cause in ("decay", "futility", "labels"):
        tell.fn(SPEC, "warning", cause, cause, as_of=AT, settings=settings)
    channels["slack/ml"].trouble = None
    barrier, found = threading.Barrier(2), []

    def run() -> None:
        barrier.wait()
        found.append(deliver_pending.fn(SPEC, as_of=later(2), settings=settings))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(channels["slack/ml"].firsts) == ["decay", "futility", "labels"]
    assert sum(len(one.reached) for one in found) == 3


def test_messages_of_one_channel_keep_their_order_and_stop_at_the_first_failure(
    channels, settings: Settings
) -> None:
    channels["slack/ml"].trouble = OSError("no route to host")
    for cause in ("decay", "futility", "labels"):
        tell.fn(SPEC, "warning", cause, cause, as_of=AT, settings=settings)
    found = deliver_pending.fn(SPEC, as_of=later(2), settings=settings)
    assert found == Delivered((), ("slack/ml",))
    assert [row.tries for row in rows(settings) if row.channel == "slack/ml"] == [2, 1, 1]
    channels["slack/ml"].trouble = None
    deliver_pending.fn(SPEC, as_of=later(60), settings=settings)
    assert channels["slack/ml"].firsts == ["decay", "futility", "labels"]


def test_a_misspelt_channel_that_is_mended_in_the_spec_gets_its_message(channels, settings: Settings) -> None:
    wrong = make_spec(alerts={"warning": ["slak/ml", "teams/ml"]})
    assert tell.fn(wrong, "warning", "decay", "score fell", as_of=AT, settings=settings).failed == (
        "slak/ml",
    )
    right = make_spec(alerts={"warning": ["slack/ml", "teams/ml"]})
    assert deliver_pending.fn(right, as_of=later(2), settings=settings) == Delivered(("slack/ml",))
    assert channels["slack/ml"].firsts == ["score fell"]
    assert len(channels["teams/ml"].got) == 1
    assert deliver_pending.fn(right, as_of=later(600), settings=settings) == Delivered()

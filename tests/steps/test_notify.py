from __future__ import annotations

import logging
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from tasks.clock import now_or
from tasks.messages import deliver
from tasks.messages.voice import run_page
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


def test_an_incident_is_told_once_on_every_channel_of_its_tier(channels, settings: Settings) -> None:
    first = tell.fn(
        SPEC, "critical", "data", "column x is gone", as_of=AT, settings=settings, link="http://ui/1"
    )
    again = tell.fn(
        SPEC, "critical", "data", "column x is gone", as_of=AT + timedelta(hours=1), settings=settings
    )
    assert first == Told(True, ("pagerduty/ops", "slack/ml"), ())
    assert again == Told(False)
    [(subject, body)] = channels["slack/ml"].got
    assert subject == "[critical] churn: data"
    assert body.splitlines()[0] == "column x is gone"
    assert "To do: " in body
    assert body.endswith("http://ui/1")
    assert len(channels["pagerduty/ops"].got) == 1
    assert channels["teams/ml"].got == []
    assert deliver_pending.fn(SPEC, as_of=later(600), settings=settings) == Delivered()
    assert len(channels["slack/ml"].got) == 1, "what arrived is not sent again"


def test_a_settled_incident_is_told_again_when_it_returns(channels, settings: Settings) -> None:
    tell.fn(SPEC, "warning", "decay", "one", as_of=AT, settings=settings)
    assert settle.fn(SPEC, "decay", as_of=AT, settings=settings)
    assert not settle.fn(SPEC, "decay", as_of=AT, settings=settings), "already over"
    assert tell.fn(SPEC, "warning", "decay", "two", as_of=AT, settings=settings).is_new
    assert channels["slack/ml"].firsts == ["one", "decay is over; it was: one", "two"]
    assert channels["slack/ml"].subjects == [
        "[warning] churn: decay", "[resolved] churn: decay", "[warning] churn: decay",
    ]  # fmt: skip
    assert channels["pagerduty/ops"].got == [], "not of this tier"


def test_different_causes_and_models_are_different_incidents(channels, settings: Settings) -> None:
    other = make_spec(name="fraud", alerts={"warning": ["slack/ml"]})
    for spec, cause in [(SPEC, "decay"), (SPEC, "futility"), (other, "decay")]:
        assert tell.fn(spec, "warning", cause, "text", as_of=AT, settings=settings).is_new
    assert len(channels["slack/ml"].got) == 3


def test_a_dead_channel_loses_nothing_for_the_rest_and_its_secret_is_kept_nowhere(
    channels, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    channels["slack/ml"].trouble = RuntimeError("POST https://hooks.example/T0/secret-token failed")
    with caplog.at_level(logging.DEBUG):
        told = tell.fn(SPEC, "warning", "decay", "score fell", as_of=AT, settings=settings)
    assert told == Told(True, ("teams/ml", "webhook/x"), ("slack/ml",))
    assert channels["teams/ml"].got
    assert "channel slack/ml was not reached: RuntimeError" in caplog.text
    assert "secret-token" not in caplog.text
    assert "secret-token" not in str(rows(settings))
    assert not tell.fn(SPEC, "warning", "decay", "score fell", as_of=AT, settings=settings).is_new


def test_a_block_that_does_not_exist_is_a_dead_channel(channels, settings: Settings) -> None:
    del channels["teams/ml"]
    told = tell.fn(SPEC, "warning", "decay", "text", as_of=AT, settings=settings)
    assert told == Told(True, ("slack/ml", "webhook/x"), ("teams/ml",))


def test_a_hanging_channel_does_not_hold_up_the_rest_and_counts_when_it_answers_after_all(
    channels, monkeypatch, settings: Settings
) -> None:
    release = threading.Event()
    channels["slack/ml"].trouble = release
    monkeypatch.setattr(deliver, "CHANNEL_SECONDS", 0.5)
    try:
        told = tell.fn(SPEC, "warning", "decay", "text", as_of=AT, settings=settings)
        assert [row.error for row in rows(settings) if row.channel == "slack/ml"] == ["no answer in time"]
    finally:
        release.set()
    assert told.failed == ("slack/ml",)
    assert told.reached == ("teams/ml", "webhook/x")
    deadline = time.monotonic() + 30
    while not all(row.delivered for row in rows(settings)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert deliver_pending.fn(SPEC, as_of=later(600), settings=settings) == Delivered()
    assert len(channels["slack/ml"].got) == 1


def test_what_is_for_information_wakes_nobody(channels, settings: Settings, caplog) -> None:
    spec = make_spec(alerts={"info": ["pagerduty/ops", "slack/ml", "twilio/x"], "warning": ["pagerduty/ops"]})
    told = tell.fn(spec, "info", "drift", "x moved", as_of=AT, settings=settings)
    assert told == Told(True, ("slack/ml",), ())
    assert channels["pagerduty/ops"].got == []
    assert "alerts.info names pagerduty/ops, twilio/x, which wakes people and is left out" in caplog.text
    assert tell.fn(spec, "warning", "decay", "text", as_of=AT, settings=settings).reached == (
        "pagerduty/ops",
    )


def test_a_message_links_to_the_page_of_its_run_unless_that_holds_a_password(monkeypatch) -> None:
    from types import SimpleNamespace

    from prefect.context import FlowRunContext
    from prefect.settings import PREFECT_UI_URL, temporary_settings

    assert run_page() == "", "there is no run"
    run = SimpleNamespace(flow_run=SimpleNamespace(id="0a1b"))
    monkeypatch.setattr(FlowRunContext, "get", classmethod(lambda cls: run))
    found = []
    for address in ("https://ui.test", "https://ann:secret@ui.test"):
        with temporary_settings({PREFECT_UI_URL: address}):
            found.append(run_page())
    assert found == ["https://ui.test/runs/flow-run/0a1b", ""]


def test_without_channels_the_log_is_told_at_the_level_of_the_tier(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        tell.fn(make_spec(), "critical", "data", "column x is gone", as_of=AT, settings=settings)
        tell.fn(make_spec(), "info", "promoted", "version 2 serves", as_of=AT, settings=settings)
    levels = {
        record.getMessage().split(" (")[0]: record.levelname
        for record in caplog.records
        if record.name == "tasks.notify"
    }
    assert levels == {
        "[critical] churn: data: column x is gone": "CRITICAL",
        "[info] churn: promoted: version 2 serves": "INFO",
    }
    incidents = alerts.history(open_store(settings), "churn", open_only=True)
    assert [incident.cause for incident in incidents] == ["data", "promoted"]

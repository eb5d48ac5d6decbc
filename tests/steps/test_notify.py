from __future__ import annotations

import json
import logging
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tasks import notify
from tasks.core.policy.decision import CheckOutcome, Decision, Evidence, decide
from tasks.core.window import Window
from tasks.notify import Told, announce, settle, tell
from tasks.settings import Settings
from tasks.store import alerts
from tasks.store.engine import open_store
from tests.make import make_spec

AT = datetime(2026, 3, 1, tzinfo=UTC)
SPEC = make_spec(
    alerts={
        "critical": ["pagerduty/ops", "slack/ml"],
        "warning": ["slack/ml", "teams/ml", "webhook/x"],
        "info": [],
    }
)


class Channel:
    """A notification block that keeps, refuses or never finishes what it is given."""

    def __init__(self, trouble: Exception | threading.Event | None = None):
        self.trouble, self.got = trouble, []

    def notify(self, body: str, subject: str) -> None:
        if isinstance(self.trouble, Exception):
            raise self.trouble
        if isinstance(self.trouble, threading.Event):
            self.trouble.wait(60)
        self.got.append((subject, body))


@pytest.fixture
def channels(monkeypatch: pytest.MonkeyPatch) -> dict[str, Channel]:
    made = {name: Channel() for name in ("pagerduty/ops", "slack/ml", "teams/ml", "webhook/x")}
    monkeypatch.setattr(notify, "_load", lambda name: made[name])
    return made


def test_an_incident_is_told_once_on_every_channel_of_its_tier(channels, settings: Settings) -> None:
    first = tell.fn(SPEC, "critical", "data", "column x is gone", as_of=AT, settings=settings)
    again = tell.fn(
        SPEC, "critical", "data", "column x is gone", as_of=AT + timedelta(hours=1), settings=settings
    )
    assert first == Told(True, ("pagerduty/ops", "slack/ml"), ())
    assert again == Told(False)
    assert channels["slack/ml"].got == [("[critical] churn: data", "column x is gone")]
    assert len(channels["pagerduty/ops"].got) == 1
    assert channels["teams/ml"].got == []


def test_a_settled_incident_is_told_again_when_it_returns(channels, settings: Settings) -> None:
    tell.fn(SPEC, "warning", "decay", "one", as_of=AT, settings=settings)
    assert settle.fn(SPEC, "decay", as_of=AT, settings=settings)
    assert not settle.fn(SPEC, "decay", as_of=AT, settings=settings), "already over"
    assert tell.fn(SPEC, "warning", "decay", "two", as_of=AT, settings=settings).is_new
    assert [body for _, body in channels["slack/ml"].got] == ["one", "two"]


def test_different_causes_and_models_are_different_incidents(channels, settings: Settings) -> None:
    other = make_spec(name="fraud", alerts={"warning": ["slack/ml"]})
    for spec, cause in [(SPEC, "decay"), (SPEC, "futility"), (other, "decay")]:
        assert tell.fn(spec, "warning", cause, "text", as_of=AT, settings=settings).is_new
    assert len(channels["slack/ml"].got) == 3


def test_a_dead_channel_loses_nothing_for_the_rest_and_its_secret_stays_out_of_the_log(
    channels, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    channels["slack/ml"].trouble = RuntimeError("POST https://hooks.example/T0/secret-token failed")
    with caplog.at_level(logging.INFO):
        told = tell.fn(SPEC, "warning", "decay", "score fell", as_of=AT, settings=settings)
    assert told == Told(True, ("teams/ml", "webhook/x"), ("slack/ml",))
    assert channels["teams/ml"].got
    assert "channel slack/ml was not reached: RuntimeError" in caplog.text
    assert "secret-token" not in caplog.text
    assert not tell.fn(SPEC, "warning", "decay", "score fell", as_of=AT, settings=settings).is_new


def test_a_block_that_does_not_exist_is_a_dead_channel(monkeypatch, settings: Settings) -> None:
    channel = Channel()

    def load(name: str) -> Channel:
        if name == "teams/ml":
            raise ValueError("Unable to find block document")
        return channel

    monkeypatch.setattr(notify, "_load", load)
    told = tell.fn(SPEC, "warning", "decay", "text", as_of=AT, settings=settings)
    assert told.failed == ("teams/ml",)
    assert len(channel.got) == 2


def test_a_hanging_channel_does_not_hold_up_the_rest(channels, monkeypatch, settings: Settings) -> None:
    release = threading.Event()
    channels["slack/ml"].trouble = release
    monkeypatch.setattr(notify, "CHANNEL_SECONDS", 0.3)
    try:
        told = tell.fn(SPEC, "warning", "decay", "text", as_of=AT, settings=settings)
    finally:
        release.set()
    assert told.failed == ("slack/ml",)
    assert told.reached == ("teams/ml", "webhook/x")


def test_an_incident_nobody_could_be_told_of_is_told_at_the_next_check(channels, settings: Settings) -> None:
    for name in ("pagerduty/ops", "slack/ml"):
        channels[name].trouble = OSError("no route to host")
    told = tell.fn(SPEC, "critical", "data", "text", as_of=AT, settings=settings)
    assert told.failed == ("pagerduty/ops", "slack/ml")
    channels["slack/ml"].trouble = None
    assert tell.fn(SPEC, "critical", "data", "text", as_of=AT, settings=settings).reached == ("slack/ml",)


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


def week(number: int) -> Window:
    return Window(AT + number * timedelta(days=7), AT + (number + 1) * timedelta(days=7))


def decision(**facts: object) -> Decision:
    return decide(Evidence(as_of=AT, **facts), SPEC)


def outcomes(*names: str) -> tuple[CheckOutcome, ...]:
    return tuple(CheckOutcome(week(number), name) for number, name in enumerate(names))


def open_incidents(settings: Settings) -> dict[str, str]:
    found = alerts.history(open_store(settings), "churn", open_only=True)
    return {incident.cause: incident.tier for incident in found}


ROUTES = [
    ({"data_ok": False, "data_reason": "column x is gone"}, {"data": "critical"}),
    ({"label_fault": "all zero"}, {"labels": "warning"}),
    ({"performance": outcomes("drift", "drift")}, {"decay": "warning"}),
    (
        {"performance": outcomes("drift", "drift"), "futile": 2},
        {"decay": "warning", "futility": "warning"},
    ),
    ({"drift": outcomes("drift", "drift")}, {"drift": "info"}),
    ({"has_champion": False}, {"first": "info"}),
    ({"drift": outcomes("ok"), "performance": outcomes("ok")}, {}),
    ({}, {}),
]


@pytest.mark.parametrize(("facts", "opened"), ROUTES, ids=[str(list(tiers.items())) for _, tiers in ROUTES])
def test_a_decision_is_announced_in_the_tier_of_its_cause(
    channels, settings: Settings, facts: dict, opened: dict[str, str]
) -> None:
    told = announce.fn(SPEC, decision(**facts), as_of=AT, settings=settings)
    assert open_incidents(settings) == opened
    assert [one.is_new for one in told] == [True] * len(opened)
    again = announce.fn(SPEC, decision(**facts), as_of=AT, settings=settings)
    assert [one.is_new for one in again] == [False] * len(opened)


def test_an_announced_incident_ends_when_the_evidence_shows_it_and_not_by_silence(
    channels, settings: Settings
) -> None:
    announce.fn(SPEC, decision(data_ok=False), as_of=AT, settings=settings)
    announce.fn(SPEC, decision(), as_of=AT, settings=settings)
    assert "data" in open_incidents(settings), "not checked is not repaired"
    announce.fn(
        SPEC, decision(data_ok=True, performance=outcomes("drift", "drift")), as_of=AT, settings=settings
    )
    assert open_incidents(settings) == {"decay": "warning"}
    silent = decision(data_ok=True, performance=outcomes("drift", "drift", "undecided"))
    announce.fn(SPEC, silent, as_of=AT, settings=settings)
    assert open_incidents(settings) == {"decay": "warning"}
    well = decision(data_ok=True, performance=outcomes("drift", "drift", "ok"))
    announce.fn(SPEC, well, as_of=AT, settings=settings)
    assert open_incidents(settings) == {}


def test_an_unknown_tier_is_refused_before_anything_is_written(settings: Settings) -> None:
    with pytest.raises(ValueError, match="tier 'page'"):
        tell.fn(SPEC, "page", "data", "text", as_of=AT, settings=settings)


def test_short_names_are_those_of_prefects_blocks() -> None:
    from prefect.blocks import notifications

    theirs = {
        kind.get_block_type_slug()
        for kind in vars(notifications).values()
        if isinstance(kind, type) and hasattr(kind, "get_block_type_slug") and hasattr(kind, "notify")
    }
    assert set(notify._BLOCKS.values()) <= theirs


def test_a_name_is_looked_up_as_a_prefect_block(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.blocks.core import Block

    asked = []
    monkeypatch.setattr(Block, "load", asked.append)
    for name in ("slack/ml", "pagerduty/ops", "my-own-block/team"):
        notify._load(name)
    assert asked == ["slack-webhook/ml", "pager-duty-webhook/ops", "my-own-block/team"]


def test_a_real_prefect_webhook_block_delivers_over_http(monkeypatch, settings: Settings) -> None:
    from prefect.blocks.notifications import CustomWebhookNotificationBlock

    got: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            del args

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        block = CustomWebhookNotificationBlock(
            name="ops",
            url=f"http://127.0.0.1:{server.server_port}/hook",
            json_data={"title": "{{subject}}", "text": "{{body}}"},
        )
        monkeypatch.setattr(notify, "_load", lambda name: block)
        spec = make_spec(alerts={"info": ["webhook/ops"]})
        told = tell.fn(spec, "info", "promoted", "version 2 serves", as_of=AT, settings=settings)
        server.shutdown()
        thread.join()
    assert told.reached == ("webhook/ops",)
    assert got == [{"title": "[info] churn: promoted", "text": "version 2 serves"}]

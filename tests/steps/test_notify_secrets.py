"""What must stay secret when channels work and when they fail: the addresses of webhooks, and keys."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prefect.blocks import notifications
from pydantic import SecretStr

from tasks.deployer import announce_promotion
from tasks.messages import channels as kinds
from tasks.messages import pagers
from tasks.notify import settle, tell
from tasks.settings import Settings
from tasks.store import ledger
from tasks.store.engine import open_store
from tests.make import make_spec
from tests.receivers import Service, reroute, service

AT = datetime(2026, 3, 1, tzinfo=UTC)
CANARY = "T0CANARY0"
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture
def far() -> Iterator[Service]:
    with service() as running:
        yield running


@pytest.mark.parametrize("status", [200, 302, 404, 503])
def test_no_address_and_no_key_of_a_channel_is_logged_or_kept(
    far: Service, tmp_path: Path, monkeypatch, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    blocks = {
        "slack/ml": notifications.SlackWebhook(
            url=SecretStr(f"https://hooks.slack.com/services/{CANARY}/B0/C0")
        ),
        "discord/ml": notifications.DiscordWebhook(
            webhook_id=SecretStr("1"), webhook_token=SecretStr(CANARY)
        ),
        "mattermost/ml": notifications.MattermostWebhook(hostname="127.0.0.1", token=SecretStr(CANARY)),
        "webhook/ops": notifications.CustomWebhookNotificationBlock(name="ops", url=f"{far.url}/{CANARY}"),
        "pagerduty/ops": notifications.PagerDutyWebHook(
            integration_key=SecretStr(CANARY), api_key=SecretStr(CANARY)
        ),
        "opsgenie/ops": notifications.OpsgenieWebhook(apikey=SecretStr(CANARY)),
    }
    monkeypatch.setattr(kinds, "load", blocks.__getitem__)
    monkeypatch.setitem(pagers.PAGERDUTY, "us", far.url)
    monkeypatch.setitem(pagers.OPSGENIE, "us", far.url)
    reroute(monkeypatch, far)
    far.statuses, far.says, far.location = [status], b"ok", f"{far.url}/{CANARY}"
    place = Settings(
        state_dir=tmp_path / "state",
        threads=1,
        deployer=f"{far.url}/{CANARY}",
        deployer_key=SecretStr(CANARY),
    )
    spec = make_spec(alerts={"critical": list(blocks)})
    with caplog.at_level(logging.DEBUG):
        told = tell.fn(spec, "critical", "data", "column x is gone", as_of=AT, settings=place)
        settle.fn(spec, "data", as_of=AT, settings=place)
        ledger.record(
            open_store(place), model=spec.name, decision_id="d", action="promoted", from_version=1,
            to_version=2, actor="gate", reason="better", at=AT,
        )  # fmt: skip
        announce_promotion.fn(
            spec, version=2, from_version=1, action="promoted", decision_id="d", digest="x", as_of=AT,
            settings=place,
        )  # fmt: skip
    assert set(told.reached if status == 200 else told.failed) == set(blocks)
    assert CANARY in str([(one.path, one.headers, one.body) for one in far.got]), "they were asked"
    assert CANARY not in caplog.text
    kept = b"".join(path.read_bytes() for path in (tmp_path / "state").glob("store.db*"))
    assert b"column x is gone" in kept
    assert CANARY.encode() not in kept

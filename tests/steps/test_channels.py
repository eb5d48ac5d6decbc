from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from prefect.blocks import notifications
from prefect.blocks.abstract import NotificationError
from prefect.blocks.core import Block
from pydantic import SecretStr

from tasks.core.messages import LONGEST, Message, opening, resolution
from tasks.messages import channels, pagers
from tasks.messages.channels import EmailMessage, send, wakes
from tasks.messages.deliver import kind_of
from tests.receivers import Service, reroute, service

OPENED = opening("demo", "data", "critical", "column x is gone", key="key-1", link="https://ui.test/runs/1")
ENDED = resolution(OPENED)
AT = datetime(2026, 3, 1, tzinfo=UTC)
SECRET = "T0SECRET0"  # noqa: S105 - a canary
# apprise imports every one of its plugins, and a library of one of them this.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture
def far() -> Iterator[Service]:
    with service() as running:
        yield running


def through(monkeypatch: pytest.MonkeyPatch, block: Any, name: str, *messages: Message) -> None:
    """Send the messages through this block, as if it were saved under the name."""
    monkeypatch.setattr(channels, "load", lambda channel: block if channel == name else None)
    for message in messages:
        send(name, message)


def test_a_message_says_what_happened_what_to_do_and_where_to_look() -> None:
    assert OPENED.subject == "[critical] demo: data"
    first, todo, link = OPENED.body.splitlines()
    assert first == "column x is gone"
    assert todo.startswith("To do: look at the validation report; mend the source")
    assert link == "https://ui.test/runs/1"
    assert ENDED.subject == "[resolved] demo: data"
    assert ENDED.body == "data is over; it was: column x is gone"
    assert (ENDED.key, ENDED.ends, ENDED.tier) == ("key-1", True, "critical")
    long = opening("demo", "data", "critical", "x" * 5000, key="k", link="https://ui.test/runs/1")
    assert len(long.body.splitlines()[0]) == LONGEST
    assert long.body.endswith("https://ui.test/runs/1"), "what is cut is what happened"
    assert Message.from_dict({**OPENED.to_dict(), "of a later version": 1}) == OPENED


# Chat: Prefect's own blocks, through apprise. The hosts of the https-only ones are rerouted to loopback.

CHATS = {
    "slack/ml": (
        lambda: notifications.SlackWebhook(url=SecretStr(f"https://hooks.slack.com/services/{SECRET}/B0/C0")),
        f"https://hooks.slack.com/services/{SECRET}/B0/C0",
    ),
    "teams/ml": (
        lambda: notifications.MicrosoftTeamsWebhook(
            url=SecretStr(
                "https://prod-1.westeurope.logic.azure.com:443/workflows/643e69f83c8944438d68119179a10a64/"
                f"triggers/manual/paths/invoke?api-version=2016-06-01&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig={SECRET}"
            )
        ),
        "https://prod-1.westeurope.logic.azure.com:443/workflows/",
    ),
    "discord/ml": (
        lambda: notifications.DiscordWebhook(webhook_id=SecretStr("1"), webhook_token=SecretStr(SECRET)),
        f"https://discord.com/api/webhooks/1/{SECRET}",
    ),
    "sendgrid/ml": (
        lambda: notifications.SendgridEmail(
            api_key=SecretStr(SECRET), sender_email="evergreen@example.com", to_emails=["a@example.com"]
        ),
        "https://api.sendgrid.com/v3/mail/send",
    ),
    "twilio/ml": (
        lambda: notifications.TwilioSMS(
            account_sid="AC" + "a" * 32,
            auth_token=SecretStr("b" * 32),
            from_phone_number="18001234567",
            to_phone_numbers=["18004242424"],
        ),
        "https://api.twilio.com/2010-04-01/Accounts/",
    ),
    "mattermost/ml": (
        lambda: notifications.MattermostWebhook(hostname="chat.example.com", token=SecretStr(SECRET)),
        f"http://chat.example.com:8065/hooks/{SECRET}",
    ),
}


@pytest.mark.parametrize("name", CHATS)
def test_every_chat_gets_the_subject_and_the_body(name: str, monkeypatch, far: Service) -> None:
    make, address = CHATS[name]
    far.says = b"ok" if name == "slack/ml" else b"{}"
    meant = reroute(monkeypatch, far)
    through(monkeypatch, make(), name, OPENED)
    assert len(meant) == 1, "one message, one request"
    assert meant[0].startswith(address)
    assert len(far.got) == 1
    said = far.got[0].body.decode() if name == "twilio/ml" else str(far.got[0].json)
    said = said.replace("+", " ").replace("%3A", ":").replace("%5B", "[").replace("%5D", "]")
    assert "[critical] demo: data" in said
    assert "column x is gone" in said


@pytest.mark.parametrize("name", CHATS)
@pytest.mark.parametrize("status", [404, 500])
def test_a_chat_that_refuses_is_a_failure_that_keeps_its_secret(
    name: str, status: int, monkeypatch, far: Service
) -> None:
    make, _ = CHATS[name]
    reroute(monkeypatch, far)
    far.statuses = [status]
    with pytest.raises(NotificationError) as caught:
        through(monkeypatch, make(), name, OPENED)
    assert kind_of(caught.value) == f"NotificationError {status}"


def test_the_colour_of_a_chat_message_is_that_of_its_tier(monkeypatch) -> None:
    seen = []

    class Chat:
        notify_type = "info"

        def notify(self, body: str, subject: str) -> None:
            del body
            seen.append((subject.split(maxsplit=1)[0], self.notify_type))

    warning = opening("demo", "decay", "warning", "score fell", key="k")
    info = opening("demo", "drift", "info", "x moved", key="k")
    through(monkeypatch, Chat(), "slack/ml", OPENED, warning, info, ENDED)
    assert seen == [
        ("[critical]", "failure"), ("[warning]", "warning"), ("[info]", "info"), ("[resolved]", "success"),
    ]  # fmt: skip


def test_a_custom_webhook_gets_its_own_json_and_a_redirect_is_not_followed(monkeypatch, far: Service) -> None:
    block = notifications.CustomWebhookNotificationBlock(
        name="ops",
        url=f"{far.url}/hook?token={SECRET}",
        json_data={"title": "{{subject}}", "text": "{{body}}"},
    )
    through(monkeypatch, block, "webhook/ops", OPENED)
    assert far.got[0].json == {"title": OPENED.subject, "text": OPENED.body}
    far.statuses, far.location = [302], f"{far.url}/elsewhere"
    with pytest.raises(httpx.HTTPStatusError) as caught:
        through(monkeypatch, block, "webhook/ops", OPENED)
    assert kind_of(caught.value) == "HTTPStatusError 302, a redirect, which is not followed"
    assert [one.path for one in far.got] == [f"/hook?token={SECRET}"] * 2


def test_an_asynchronous_block_of_ones_own_is_awaited(monkeypatch) -> None:
    got = []

    class Own:
        async def notify(self, body: str, subject: str) -> None:
            got.append((subject, body))

    through(monkeypatch, Own(), "my-own-block/x", OPENED)
    assert got == [(OPENED.subject, OPENED.body)]


def test_one_of_several_receivers_that_fails_is_not_the_failure_of_all(
    monkeypatch, far: Service, caplog: pytest.LogCaptureFixture
) -> None:
    def block() -> notifications.TwilioSMS:
        return notifications.TwilioSMS(
            account_sid="AC" + "a" * 32,
            auth_token=SecretStr("b" * 32),
            from_phone_number="18001234567",
            to_phone_numbers=["18004242424", "18004242425", "18004242426"],
        )

    reroute(monkeypatch, far)
    far.statuses = [400, 201, 201]
    through(monkeypatch, block(), "twilio/ops", OPENED)
    assert [f"1800424242{n}" in one.body.decode() for n, one in zip((4, 5, 6), far.got, strict=True)] == [
        True
    ] * 3
    assert "channel twilio/ops did not reach 1 of 3 receivers: NotificationError" in caplog.text
    far.statuses = [400]
    with pytest.raises(NotificationError):
        through(monkeypatch, block(), "twilio/ops", OPENED)


# Pagers: opened and closed under the incident's key.


def test_pagerduty_is_triggered_and_resolved_under_one_key(monkeypatch, far: Service) -> None:
    monkeypatch.setitem(pagers.PAGERDUTY, "eu", f"{far.url}/v2/enqueue")
    far.statuses = [202]
    block = notifications.PagerDutyWebHook(
        integration_key=SecretStr("routing"), api_key=SecretStr("unused"), region_name="eu"
    )
    through(monkeypatch, block, "pagerduty/ops", OPENED, ENDED)
    opened, ended = [one.json for one in far.got]
    assert {one.path for one in far.got} == {"/v2/enqueue"}
    assert (opened["event_action"], opened["dedup_key"], opened["routing_key"]) == (
        "trigger",
        "key-1",
        "routing",
    )
    assert opened["payload"]["summary"] == "[critical] demo: data: column x is gone"
    assert opened["payload"]["severity"] == "critical"
    assert opened["payload"]["custom_details"]["message"] == OPENED.body
    assert opened["links"] == [{"href": "https://ui.test/runs/1", "text": "the run"}]
    assert ended == {"routing_key": "routing", "event_action": "resolve", "dedup_key": "key-1"}


def test_opsgenie_is_opened_and_closed_under_one_alias(monkeypatch, far: Service) -> None:
    monkeypatch.setitem(pagers.OPSGENIE, "us", f"{far.url}/v2/alerts")
    far.statuses = [202]
    block = notifications.OpsgenieWebhook(
        apikey=SecretStr("genie"), target_team=["ml"], target_user=["ann@example.com"], tags=["evergreen"]
    )
    through(monkeypatch, block, "opsgenie/ops", OPENED, ENDED)
    opened, ended = far.got
    assert [one.path for one in far.got] == ["/v2/alerts", "/v2/alerts/key-1/close?identifierType=alias"]
    assert {one.headers["Authorization"] for one in far.got} == {"GenieKey genie"}
    assert (opened.json["message"], opened.json["alias"]) == ("[critical] demo: data", "key-1")
    assert opened.json["priority"] == "P1"
    assert opened.json["responders"] == [
        {"type": "user", "username": "ann@example.com"},
        {"type": "team", "name": "ml"},
    ]
    assert ended.json == {"source": "Evergreen", "note": ENDED.body}


@pytest.mark.parametrize("kind", ["pagerduty", "opsgenie"])
def test_a_pager_that_refuses_is_a_failure(kind: str, monkeypatch, far: Service) -> None:
    monkeypatch.setitem(pagers.PAGERDUTY, "us", far.url)
    monkeypatch.setitem(pagers.OPSGENIE, "us", far.url)
    far.statuses = [403]
    block: Any = (
        notifications.PagerDutyWebHook(integration_key=SecretStr("k"), api_key=SecretStr("k"))
        if kind == "pagerduty"
        else notifications.OpsgenieWebhook(apikey=SecretStr("k"))
    )
    with pytest.raises(httpx.HTTPStatusError) as caught:
        through(monkeypatch, block, f"{kind}/ops", OPENED)
    assert kind_of(caught.value) == "HTTPStatusError 403"


def test_channels_that_wake_people_are_known_by_either_name() -> None:
    named = ["pagerduty/x", "pager-duty-webhook/x", "opsgenie/x", "twilio/x", "twilio-sms/x"]
    assert [wakes(name) for name in named] == [True] * 5
    assert [wakes(name) for name in ("slack/x", "email/x", "webhook/pagerduty", "teams/x")] == [False] * 4


# Blocks by name.


def test_short_names_are_those_of_prefects_blocks() -> None:
    theirs = {
        kind.get_block_type_slug()
        for kind in vars(notifications).values()
        if isinstance(kind, type) and hasattr(kind, "get_block_type_slug") and hasattr(kind, "notify")
    }
    assert set(channels.BLOCKS.values()) <= theirs | {EmailMessage.get_block_type_slug()}


def test_a_name_is_looked_up_as_a_prefect_block(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(Block, "load", asked.append)
    for name in ("slack/ml", "pagerduty/ops", "email/ops", "my-own-block/team"):
        channels.load(name)
    assert asked == ["slack-webhook/ml", "pager-duty-webhook/ops", "email/ops", "my-own-block/team"]

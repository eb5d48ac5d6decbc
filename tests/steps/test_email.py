from __future__ import annotations

import logging
import smtplib
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.runtime import flow_run
from pydantic import SecretStr, ValidationError

from tasks.core.messages import Message, opening, resolution
from tasks.messages import channels
from tasks.messages.channels import EmailMessage, send
from tasks.messages.deliver import kind_of
from tasks.notify import Told, settle, tell
from tasks.settings import Settings
from tests.make import make_spec
from tests.receivers import mail_server

OPENED = opening("demo", "data", "critical", "column x is gone", key="key-1", link="https://ui.test/runs/1")
ENDED = resolution(OPENED)
AT = datetime(2026, 3, 1, tzinfo=UTC)
SECRET = "T0SECRET0"  # noqa: S105 - a canary
# apprise imports every one of its plugins, and a library of one of them this.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


def through(monkeypatch: pytest.MonkeyPatch, block: Any, name: str, *messages: Message) -> None:
    """Send the messages through this block, as if it were saved under the name."""
    monkeypatch.setattr(channels, "load", lambda channel: block if channel == name else None)
    for message in messages:
        send(name, message)


def email_block(**over: Any) -> EmailMessage:
    block = {
        "sender": "evergreen@example.com",
        "to": ["ann@example.com", "bo@example.com"],
        "security": "none",
    }
    return EmailMessage(**{**block, **over})


def test_an_email_goes_to_every_receiver_once(monkeypatch) -> None:
    with mail_server() as server:
        block = email_block(host=server.host, port=server.port, username="u", password=SecretStr("p"))
        odd = opening("demo", "data", "critical", "Grün: 3 < 4\n. a dot", key="k")
        through(monkeypatch, block, "email/ops", OPENED, odd)
    assert len(server.mails) == 2
    sender, receivers, mail = server.mails[0]
    assert sender == "evergreen@example.com"
    assert receivers == ["ann@example.com", "bo@example.com"]
    assert mail["Subject"] == "[critical] demo: data"
    assert mail.get_content().strip() == OPENED.body
    assert server.mails[1][2].get_content().strip() == odd.body
    assert len(server.logins) == 2


def test_a_refused_receiver_does_not_fail_the_others(monkeypatch, caplog: pytest.LogCaptureFixture) -> None:
    with mail_server() as server:
        server.refuses = {"ann@example.com"}
        block = email_block(host=server.host, port=server.port)
        monkeypatch.setattr(EmailMessage, "logger", logging.getLogger("tests.email"))
        through(monkeypatch, block, "email/ops", OPENED)
        assert [receivers for _, receivers, _ in server.mails] == [["bo@example.com"]]
        assert "1 of 2 e-mail receivers were refused" in caplog.text
        server.refuses.add("bo@example.com")
        with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
            through(monkeypatch, block, "email/ops", OPENED)
    assert kind_of(caught.value) == "SMTPRecipientsRefused"


def test_an_email_password_goes_only_to_a_server_whose_certificate_is_trusted(
    monkeypatch, tmp_path: Path
) -> None:
    with mail_server(tmp_path) as server:
        block = email_block(
            host=server.host, port=server.port, security="starttls", username="u", password=SecretStr("p")
        )
        with pytest.raises(ssl.SSLCertVerificationError):
            through(monkeypatch, block, "email/ops", OPENED)
        assert server.logins == []
        real = ssl.create_default_context
        monkeypatch.setattr(ssl, "create_default_context", lambda: real(cafile=str(server.certificate)))
        through(monkeypatch, block, "email/ops", OPENED)
    assert [in_clear for _, in_clear in server.logins] == [False]
    assert len(server.mails) == 1


@pytest.mark.parametrize(
    ("over", "why"),
    [
        (
            {"username": "u", "password": "p", "host": "mail.example.com"},
            "security none would send the password",
        ),
        ({"username": "u", "host": "127.0.0.1"}, "a username without a password"),
        ({"to": ["ann@example.com", "bo"], "host": "127.0.0.1"}, "1 of 2 receivers are no e-mail addresses"),
        ({"to": ["ann@example.com\nBcc: eve@example.com"], "host": "127.0.0.1"}, "no e-mail addresses"),
    ],
)
def test_an_email_block_that_cannot_work_or_is_unsafe_is_refused(over: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        email_block(**over)


@pytest.mark.engine
def test_a_flow_tells_through_a_saved_block_with_a_link_to_its_run(
    prefect_api: None, settings: Settings
) -> None:
    spec = make_spec(alerts={"critical": ["email/ops", "email/nobody"]})

    @flow
    def check() -> tuple[str, Told, bool]:
        told = tell(spec, "critical", "data", "column x is gone", as_of=AT, settings=settings)
        return str(flow_run.id), told, settle(spec, "data", as_of=AT, settings=settings)

    with mail_server() as server:
        block = email_block(host=server.host, port=server.port, username="u", password=SecretStr(SECRET))
        block.save("ops", overwrite=True)
        run, told, settled = check()
    assert told == Told(True, ("email/ops",), ("email/nobody",))
    assert settled
    opened, ended = [mail for _, _, mail in server.mails]
    assert (opened["Subject"], ended["Subject"]) == ("[critical] churn: data", "[resolved] churn: data")
    assert opened.get_content().strip().endswith(f"/runs/flow-run/{run}")
    assert ended.get_content().startswith("data is over; it was: column x is gone")

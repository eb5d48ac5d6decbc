"""Channels to people: Prefect notification blocks by `type/name`, and what is particular about each kind."""

from __future__ import annotations

import asyncio
import inspect
import smtplib
import ssl
from contextlib import nullcontext
from email.message import EmailMessage as Mail
from typing import Any, Literal, Self

from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from pydantic import Field, SecretStr, model_validator

from tasks.core.hosts import on_this_host
from tasks.core.messages import Message
from tasks.log import task_logger
from tasks.messages.pagers import close_or_open
from tasks.store.deadline import SECONDS, within

# What people call a channel, and what Prefect calls the block. Other names are taken as Prefect's own.
BLOCKS = {
    "slack": "slack-webhook",
    "teams": "ms-teams-webhook",
    "pagerduty": "pager-duty-webhook",
    "opsgenie": "opsgenie-webhook",
    "discord": "discord-webhook",
    "mattermost": "mattermost-webhook",
    "webhook": "custom-webhook",
    "sendgrid": "sendgrid-email",
    "twilio": "twilio-sms",
    "email": "email",
}
_CLOSING = {"pager-duty-webhook", "opsgenie-webhook"}
_PAGERS = {*_CLOSING, "twilio-sms"}
# Blocks that tell several receivers and fail as a whole when one of them failed: told one by one.
_SEVERAL = {
    "twilio-sms": "to_phone_numbers",
    "sendgrid-email": "to_emails",
    "mattermost-webhook": "channels",
}
_COLOURS = {"critical": "failure", "warning": "warning", "info": "info"}


def wakes(channel: str) -> bool:
    """Return True when this channel wakes people: it never gets what is only for information.

    Example:
        >>> wakes("pagerduty/ops"), wakes("slack/ml")
        (True, False)
    """
    return _slug(channel) in _PAGERS


def closes(channel: str) -> bool:
    """Return True when this channel opens and closes incidents of its own, by key; closing wakes nobody.

    Example:
        >>> closes("opsgenie/ops"), closes("twilio/ops")
        (True, False)
    """
    return _slug(channel) in _CLOSING


def send(channel: str, message: Message) -> None:
    """Send the message to the channel and return when it was taken.

    Raises:
        Exception: whatever the block raises when it is missing or the channel refuses; its text may hold
            secrets.
    """
    block = load(channel)
    slug = _slug(channel)
    if close_or_open(block, slug, message):
        return
    if hasattr(block, "notify_type"):  # the colour of the message, where there is one
        block.notify_type = "success" if message.ends else _COLOURS[message.tier]
    receivers = getattr(block, _SEVERAL.get(slug, ""), None) or []
    if len(receivers) > 1:
        _one_by_one(block, _SEVERAL[slug], receivers, message, channel)
    else:
        _notify(block, message)


def load(channel: str) -> Any:  # Any: a Prefect notification block, of whatever kind the name says
    """Return the block of this channel, as it is now."""
    name = channel.partition("/")[2]
    return Block.load(f"{_slug(channel)}/{name}")


def _slug(channel: str) -> str:
    kind = channel.partition("/")[0]
    return BLOCKS.get(kind, kind)


def _one_by_one(block: Any, field: str, receivers: list[str], message: Message, channel: str) -> None:
    """Tell every receiver; one that was reached makes it a success, for trying again would tell it twice."""
    lost: list[Exception] = []
    for receiver in receivers:
        setattr(block, field, [receiver])
        block.block_initialization()
        try:
            _notify(block, message)
        except Exception as err:  # whatever happens to one receiver, the others must be told
            lost.append(err)
    if len(lost) == len(receivers):
        raise lost[0]
    if lost:
        task_logger(__name__).error(
            "%s: channel %s did not reach %d of %d receivers: %s",
            message.model, channel, len(lost), len(receivers), type(lost[0]).__name__,
        )  # fmt: skip


def _notify(block: Any, message: Message) -> None:  # Any: a notification block
    """Let the block send. Prefect's own swallow every failure unless they are told to raise it."""

    def notify() -> None:
        raising = getattr(block, "raise_on_failure", nullcontext)
        with raising():
            result = block.notify(body=message.body, subject=message.subject)
            if inspect.isawaitable(result):  # a block of the user's own may be asynchronous
                asyncio.run(_awaited(result))

    within(SECONDS, notify)


async def _awaited(result: Any) -> None:  # Any: what an asynchronous block returns
    await result


class EmailMessage(NotificationBlock):
    """Sends messages by e-mail through an SMTP server; the channel `email/<name>`.

    All receivers get one e-mail. One that the server refuses is logged and does not fail the others.
    """

    _block_type_name = "Email (SMTP)"
    _block_type_slug = "email"

    host: str = Field(..., min_length=1, description="Host name of the SMTP server.")
    port: int = Field(587, ge=1, le=65_535, description="Port; usually 587 for starttls and 465 for ssl.")
    security: Literal["starttls", "ssl", "none"] = Field(
        "starttls", description="How the connection is encrypted; none is for a relay on this host."
    )
    username: str | None = Field(None, description="User name; without one nobody logs in.")
    password: SecretStr | None = Field(None, description="Password of that user.")
    sender: str = Field(..., pattern=r"^[^@\s]+@[^@\s]+$", description="Address that the e-mail comes from.")
    to: list[str] = Field(..., min_length=1, description="Addresses that the e-mail goes to.")
    timeout: float = Field(10, gt=0, le=60, description="Seconds that each exchange may take.")

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if self.username and self.password is None:
            raise ValueError("a username without a password: give both or neither")
        if self.security == "none" and self.password is not None and not on_this_host(self.host):
            raise ValueError("security none would send the password readable: use starttls or ssl")
        wrong = sum(1 for one in self.to if one.count("@") != 1 or one.split() != [one])
        if wrong:
            raise ValueError(f"{wrong} of {len(self.to)} receivers are no e-mail addresses")
        return self

    def notify(  # type: ignore[override] # declared asynchronous, but Prefect's own are not either
        self, body: str, subject: str | None = None
    ) -> None:
        """Send the e-mail; return when the server took it for at least one receiver."""
        mail = Mail()
        mail["From"], mail["To"] = self.sender, ", ".join(self.to)
        mail["Subject"] = " ".join((subject or "Evergreen").split())
        mail.set_content(body)
        with self._connected() as server:
            refused = server.send_message(mail, self.sender, self.to)
        if refused:
            self.logger.error("%d of %d e-mail receivers were refused", len(refused), len(self.to))

    def _connected(self) -> smtplib.SMTP:
        context = ssl.create_default_context()
        if self.security == "ssl":
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                self.host, self.port, timeout=self.timeout, context=context
            )
        else:
            server = smtplib.SMTP(self.host, self.port, timeout=self.timeout)
        try:
            if self.security == "starttls":
                server.starttls(context=context)
            if self.username and self.password is not None:
                server.login(self.username, self.password.get_secret_value())
        except BaseException:
            server.close()
            raise
        return server

"""Pagers: PagerDuty and Opsgenie, where an incident of ours opens one of theirs and its end closes it.

Prefect's blocks of these hold the keys but can only open: so the block is read and the service is asked
directly. `Message.key` names the incident there, so that a message that comes twice pages once.
"""

from __future__ import annotations

from typing import Any

import httpx

from tasks.core.messages import Message
from tasks.store.deadline import SECONDS, within

PAGERDUTY = {
    "us": "https://events.pagerduty.com/v2/enqueue",
    "eu": "https://events.eu.pagerduty.com/v2/enqueue",
}
OPSGENIE = {"us": "https://api.opsgenie.com/v2/alerts", "eu": "https://api.eu.opsgenie.com/v2/alerts"}
TIMEOUT = httpx.Timeout(10)
_SEVERITY = {"critical": "critical", "warning": "warning", "info": "info"}
# By the tier, not by the block's priority: its scale and Opsgenie's run in opposite directions.
_PRIORITY = {"critical": "P1", "warning": "P3", "info": "P5"}


def close_or_open(block: Any, slug: str, message: Message) -> bool:  # Any: a notification block
    """Return True when the block is a pager's, which was told; its incident is opened or closed by the key.

    Raises:
        httpx.HTTPError: when the service does not take it.
    """
    if slug == "pager-duty-webhook":
        _ask(PAGERDUTY[block.region_name], _pagerduty(block, message))
    elif slug == "opsgenie-webhook":
        address, headers = OPSGENIE[block.region_name], _opsgenie_headers(block)
        if message.ends:
            note = {"source": "Evergreen", "note": message.body}
            _ask(f"{address}/{message.key}/close?identifierType=alias", note, headers)
        else:
            _ask(address, _opsgenie(block, message), headers)
    else:
        return False
    return True


def _pagerduty(block: Any, message: Message) -> dict[str, Any]:
    """Return the event of PagerDuty's Events API v2."""
    event: dict[str, Any] = {
        "routing_key": block.integration_key.get_secret_value(),
        "event_action": "resolve" if message.ends else "trigger",
        "dedup_key": message.key,
    }
    if message.ends:
        return event
    first = message.body.splitlines()[0]
    event["payload"] = {
        "summary": f"{message.subject}: {first}"[:1024],
        "severity": _SEVERITY[message.tier],
        "source": block.source or "Evergreen",
        "component": block.component,
        "group": block.group or message.model,
        "class": block.class_id or message.cause,
        "custom_details": {**(block.custom_details or {}), "message": message.body},
    }
    event["client"] = "Evergreen"
    if message.link:
        event["links"] = [{"href": message.link, "text": "the run"}]
    return event


def _opsgenie(block: Any, message: Message) -> dict[str, Any]:
    """Return the alert of Opsgenie's alert API."""
    responders = [
        *({"type": "user", "username": name} for name in block.target_user or ()),
        *({"type": "team", "name": name} for name in block.target_team or ()),
        *({"type": "schedule", "name": name} for name in block.target_schedule or ()),
        *({"type": "escalation", "name": name} for name in block.target_escalation or ()),
    ]
    return {
        "message": message.subject[:130],
        "alias": message.key,
        "description": message.body,
        "priority": _PRIORITY[message.tier],
        "source": "Evergreen",
        "entity": block.entity or message.model,
        "tags": list(block.tags or ()),
        "details": dict(block.details or {}),
        "responders": responders,
    }


def _opsgenie_headers(block: Any) -> dict[str, str]:
    return {"Authorization": f"GenieKey {block.apikey.get_secret_value()}"}


def _ask(url: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
    client = httpx.Client(timeout=TIMEOUT, follow_redirects=False)

    def post() -> None:
        with client, client.stream("POST", url, json=body, headers=headers) as answer:
            answer.raise_for_status()

    within(SECONDS, post, give_up=client.close)

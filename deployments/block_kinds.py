"""Which Prefect block is made from which environment variable."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any
from urllib.parse import urlsplit

from prefect.blocks import notifications
from prefect.blocks.core import Block
from prefect.blocks.system import Secret
from prefect_aws import AwsCredentials, AwsSecret, S3Bucket
from pydantic import ValidationError

from tasks.core.errors import SpecError
from tasks.messages.channels import EmailMessage

Fields = dict[str, Any]  # Any: the block's own fields

_AWS = {
    "aws_access_key_id": "AWS_ACCESS_KEY_ID",
    "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "aws_session_token": "AWS_SESSION_TOKEN",
    "region_name": "AWS_DEFAULT_REGION",
}


@dataclass(frozen=True)
class Kind:
    """One kind of block: its class, what the variable holds, and how that becomes the block's fields."""

    block: type[Block]
    holds: str
    fields: Callable[[str, Mapping[str, str]], Fields]


def build(kind: str, name: str, text: str, environ: Mapping[str, str]) -> Block:
    """Return the block that a variable describes; a value that starts with `{` is its fields as JSON.

    Raises:
        SpecError: naming the wrong fields, never their values.
    """
    where = f"EVERGREEN_BLOCK_{kind}_{name.upper().replace('-', '_')}"
    chosen = KINDS[kind]
    try:
        fields = _json(kind, text) if text.startswith("{") else chosen.fields(text, environ)
        block = chosen.block(**fields)
    except ValidationError as err:
        wrong = sorted({".".join(map(str, fault["loc"])) or "the whole" for fault in err.errors()})
        raise SpecError(f"{where}: wrong {', '.join(wrong)}", chosen.holds, "correct the variable") from None
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
    ) as err:  # from None: the text of these may hold the secret
        raise SpecError(f"{where}: {type(err).__name__}", chosen.holds, "correct the variable") from None
    _refuse_unknown(block, where)
    return block


def _json(kind: str, text: str) -> Fields:
    """Return the fields, as safe on their way as the short form's."""
    fields: Fields = json.loads(text)
    if kind == "MATTERMOST" and not fields.setdefault("secure", True):
        raise ValueError("not secure")
    url = fields.get("url")
    if url is not None and not str(url).lstrip().startswith("{{"):
        _https(str(url))
    for secret in (fields.get("secrets") or {}).values():  # an address may be one of them
        if str(secret).strip().lower().startswith("http:"):
            raise ValueError("no https://")
    return fields


def _refuse_unknown(block: Block, where: str) -> None:
    """Refuse fields the block's class has not got: Prefect would store them as they are, in clear."""
    known = type(block).model_fields
    for name in block.model_extra or {}:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            todo = f"did you mean {near[0]!r}?" if near else "remove it"
            raise SpecError(f"{where}: field {name!r}", f"one of {', '.join(sorted(known))}", todo)
    for name in known:
        if isinstance(inner := getattr(block, name), Block):
            _refuse_unknown(inner, where)


def _url(text: str, _: Mapping[str, str]) -> Fields:
    return {"url": _https(text)}


def _pagerduty(text: str, _: Mapping[str, str]) -> Fields:
    return {"integration_key": text, "api_key": text}  # its events are taken by the integration key alone


def _discord(text: str, _: Mapping[str, str]) -> Fields:
    identity, token = urlsplit(_https(text)).path.strip("/").split("/")[-2:]
    return {"webhook_id": identity, "webhook_token": token}


def _mattermost(text: str, _: Mapping[str, str]) -> Fields:
    parts = urlsplit(_https(text))
    path, hooks, token = parts.path.rpartition("/hooks/")
    if not hooks or not token:
        raise ValueError("no /hooks/ in it")
    return {
        "hostname": parts.hostname,
        "port": parts.port or 443,
        "path": path or None,
        "token": token,
        "secure": True,
    }  # without it the token travels in clear


def _webhook(text: str, _: Mapping[str, str]) -> Fields:
    # The address is a secret too: whoever knows it can write there.
    message = {"subject": "{{subject}}", "body": "{{body}}"}
    return {
        "name": "evergreen",
        "url": "{{address}}",
        "json_data": message,
        "secrets": {"address": _https(text)},
    }


def _no_short_form(text: str, _: Mapping[str, str]) -> Fields:
    raise ValueError("not JSON")


def _aws(text: str, environ: Mapping[str, str]) -> Fields:
    if text != "env":
        raise ValueError("neither env nor JSON")
    fields: Fields = {field: environ[name] for field, name in _AWS.items() if environ.get(name)}
    if {"aws_access_key_id", "aws_secret_access_key"} - fields.keys():
        raise KeyError("AWS_ACCESS_KEY_ID")
    if environ.get("AWS_ENDPOINT_URL"):
        fields["aws_client_parameters"] = {"endpoint_url": environ["AWS_ENDPOINT_URL"]}
    return fields


def _s3(text: str, environ: Mapping[str, str]) -> Fields:
    parts = urlsplit(text)
    if parts.scheme != "s3" or not parts.netloc:
        raise ValueError("no s3://")
    fields: Fields = {"bucket_name": parts.netloc, "bucket_folder": parts.path.strip("/")}
    if environ.get("AWS_ACCESS_KEY_ID"):
        fields["credentials"] = AwsCredentials(**_aws("env", environ))
    return fields


def _aws_secret(text: str, environ: Mapping[str, str]) -> Fields:
    known = AwsCredentials(**_aws("env", environ)) if environ.get("AWS_ACCESS_KEY_ID") else AwsCredentials()
    return {"secret_name": text, "aws_credentials": known}


def _https(text: str) -> str:
    parts = urlsplit(text.strip())
    if parts.scheme != "https" or not parts.hostname:
        raise ValueError("no https://")
    return text.strip()


KINDS = {
    "SLACK": Kind(notifications.SlackWebhook, "an https:// webhook", _url),
    "TEAMS": Kind(notifications.MicrosoftTeamsWebhook, "an https:// webhook", _url),
    "DISCORD": Kind(notifications.DiscordWebhook, "an https:// webhook", _discord),
    "MATTERMOST": Kind(notifications.MattermostWebhook, "https://host/hooks/token", _mattermost),
    "WEBHOOK": Kind(notifications.CustomWebhookNotificationBlock, "an https:// address", _webhook),
    "PAGERDUTY": Kind(notifications.PagerDutyWebHook, "an integration key", _pagerduty),
    "OPSGENIE": Kind(notifications.OpsgenieWebhook, "an API key", lambda text, _: {"apikey": text}),
    "EMAIL": Kind(EmailMessage, 'JSON: {"host": …, "sender": …, "to": [ … ]}', _no_short_form),
    "SECRET": Kind(Secret, "the secret", lambda text, _: {"value": text}),
    "AWSSECRET": Kind(AwsSecret, "name of a secret in Secrets Manager; credentials as for AWS", _aws_secret),
    "AWS": Kind(AwsCredentials, "env: credentials from AWS_ACCESS_KEY_ID and the like", _aws),
    "S3": Kind(S3Bucket, "s3://bucket/prefix; credentials as for AWS", _s3),
}

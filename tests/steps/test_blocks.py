"""Blocks from environment variables: what they become, what is refused, and that no value is ever shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deployments.blocks import blocks_of, main
from tasks.core.errors import SpecError

# Apprise, which checks the addresses, imports a module that Python 3.13 drops.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
CANARY = "canary-5f1b"
GIVEN = {
    "EVERGREEN_BLOCK_SLACK_ML_OPS": f"https://hooks.slack.com/services/T0/B0/{CANARY}",
    "EVERGREEN_BLOCK_DISCORD_ML": f"https://discord.com/api/webhooks/123/{CANARY}",
    "EVERGREEN_BLOCK_MATTERMOST_ML": f"https://chat.example.com/hooks/{CANARY}",
    "EVERGREEN_BLOCK_WEBHOOK_ML": f"https://example.com/in/{CANARY}",
    "EVERGREEN_BLOCK_PAGERDUTY_OPS": CANARY,
    "EVERGREEN_BLOCK_EMAIL_ML": (
        '{"host": "smtp.example.com", "sender": "a@b.c", "to": ["d@e.f"], "username": "u", '
        f'"password": "{CANARY}"}}'
    ),
    "EVERGREEN_BLOCK_SECRET_CRM_PASSWORD": CANARY,
    "EVERGREEN_BLOCK_AWS_ML": "env",
    "EVERGREEN_BLOCK_S3_ML": "s3://bucket/some/prefix",
    "EVERGREEN_BLOCK_AWSSECRET_CRM": "prod/crm",
    "AWS_ACCESS_KEY_ID": "AKIA",
    "AWS_SECRET_ACCESS_KEY": CANARY,
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
}
NAMES = {
    *("slack-webhook/ml-ops", "discord-webhook/ml", "mattermost-webhook/ml", "custom-webhook/ml", "email/ml"),
    *("pager-duty-webhook/ops", "secret/crm-password", "aws-credentials/ml", "s3-bucket/ml"),
    "aws-secret/crm",
}


def test_each_variable_becomes_its_block() -> None:
    blocks = blocks_of({**GIVEN, "HOME": "/", "EVERGREEN_STORE": "sqlite://"})
    assert set(blocks) == NAMES
    assert blocks["secret/crm-password"].get() == CANARY
    assert blocks["slack-webhook/ml-ops"].url.get_secret_value() == GIVEN["EVERGREEN_BLOCK_SLACK_ML_OPS"]
    assert blocks["discord-webhook/ml"].webhook_id.get_secret_value() == "123"
    assert blocks["discord-webhook/ml"].webhook_token.get_secret_value() == CANARY
    assert blocks["mattermost-webhook/ml"].hostname == "chat.example.com"
    assert blocks["mattermost-webhook/ml"].token.get_secret_value() == CANARY
    assert blocks["mattermost-webhook/ml"].secure is True, "or the token travels in clear"
    bucket = blocks["s3-bucket/ml"]
    assert (bucket.bucket_name, bucket.bucket_folder) == ("bucket", "some/prefix")
    assert bucket.credentials.aws_secret_access_key.get_secret_value() == CANARY
    assert blocks["aws-credentials/ml"].aws_client_parameters.endpoint_url == "http://127.0.0.1:9"
    secret = blocks["aws-secret/crm"]
    assert (secret.secret_name, secret.aws_credentials.aws_access_key_id) == ("prod/crm", "AKIA")
    assert blocks["email/ml"].to == ["d@e.f"]
    asked = blocks["custom-webhook/ml"]._build_request_args("B", "S")
    assert (asked["url"], asked["json"]) == (
        GIVEN["EVERGREEN_BLOCK_WEBHOOK_ML"],
        {"subject": "S", "body": "B"},
    )
    assert CANARY not in repr(blocks)


def test_a_value_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{CANARY}\n")
    (block,) = blocks_of({"EVERGREEN_BLOCK_SECRET_CRM_FILE": str(tmp_path / "secret")}).values()
    assert block.get() == CANARY
    with pytest.raises(SpecError, match="EVERGREEN_BLOCK_SECRET_CRM_FILE: FileNotFoundError"):
        blocks_of({"EVERGREEN_BLOCK_SECRET_CRM_FILE": str(tmp_path / "absent")})
    (tmp_path / "binary").write_bytes(b"\xff\xfe" + CANARY.encode())
    with pytest.raises(SpecError, match="EVERGREEN_BLOCK_SECRET_CRM_FILE: UnicodeDecodeError") as refused:
        blocks_of({"EVERGREEN_BLOCK_SECRET_CRM_FILE": str(tmp_path / "binary")})
    assert refused.value.__suppress_context__, "a traceback would show the bytes"
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(SpecError, match="EVERGREEN_BLOCK_SECRET_CRM_FILE without a value"):
        blocks_of({"EVERGREEN_BLOCK_SECRET_CRM_FILE": str(tmp_path / "empty")})


def test_a_value_that_stands_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(CANARY)
    given = {
        "EVERGREEN_BLOCK_SECRET_CRM": CANARY,
        "EVERGREEN_BLOCK_SECRET_CRM_FILE": str(tmp_path / "secret"),
    }
    with pytest.raises(
        SpecError, match="both EVERGREEN_BLOCK_SECRET_CRM and EVERGREEN_BLOCK_SECRET_CRM_FILE"
    ):
        blocks_of(given)


def test_mattermost_as_json_is_secure_as_well() -> None:
    fields = {"hostname": "chat.example.com", "token": CANARY}
    (block,) = blocks_of({"EVERGREEN_BLOCK_MATTERMOST_ML": json.dumps(fields)}).values()
    assert block.secure is True


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("EVERGREEN_BLOCK_SLACK_ML", f"http://hooks.slack.com/{CANARY}", "https:// webhook"),
        ("EVERGREEN_BLOCK_SLAK_ML", CANARY, "rename it"),
        ("EVERGREEN_BLOCK_SLACK_", CANARY, "rename it"),
        ("EVERGREEN_BLOCK_EMAIL_ML", f'{{"host": "h", "password": "{CANARY}"}}', "wrong sender, to"),
        ("EVERGREEN_BLOCK_EMAIL_ML", f'{{"host": "{CANARY}', "JSONDecodeError"),
        ("EVERGREEN_BLOCK_S3_ML", f"https://{CANARY}", "s3://bucket/prefix"),
        ("EVERGREEN_BLOCK_AWS_ML", "env", "credentials from AWS_ACCESS_KEY_ID"),
        ("EVERGREEN_BLOCK_MATTERMOST_ML", f"https://chat.example.com/{CANARY}", "https://host/hooks/token"),
        (
            "EVERGREEN_BLOCK_MATTERMOST_ML",
            f'{{"hostname": "h", "token": "{CANARY}", "secure": false}}',
            "ValueError",
        ),
        ("EVERGREEN_BLOCK_SECRET_CRM", " ", "without a value"),
        ("EVERGREEN_BLOCK_SECRET_CRM", f'{{"value": "x", "pasword": "{CANARY}"}}', "field 'pasword'"),
        (
            "EVERGREEN_BLOCK_EMAIL_ML",
            f'{{"host": "h", "sender": "a@b.c", "to": ["d@e.f"], "pasword": "{CANARY}"}}',
            "did you mean 'password'",
        ),
        (
            "EVERGREEN_BLOCK_S3_ML",
            '{"bucket_name": "b", "credentials": {"aws_access_key_id": "A", "aws_secret_access_key": "S", '
            f'"aws_sesion_token": "{CANARY}"}}}}',
            "did you mean 'aws_session_token'",
        ),
        ("EVERGREEN_BLOCK_SLACK_ML", f'{{"url": "http://hooks.slack.com/{CANARY}"}}', "https:// webhook"),
        (
            "EVERGREEN_BLOCK_WEBHOOK_ML",
            '{"name": "n", "url": "{{address}}", "secrets": {"address": ' + f'"http://h/{CANARY}"}}}}',
            "https:// address",
        ),
        ("EVERGREEN_BLOCK_WEBHOOK_ML", '{"url": "{{address}}", "secrets": ["a"]}', "https:// address"),
    ],
)
def test_a_wrong_variable_is_named_and_its_value_never_told(variable: str, value: str, says: str) -> None:
    with pytest.raises(SpecError) as refused:
        blocks_of({variable: value})
    assert variable in str(refused.value)
    assert says in str(refused.value)
    assert CANARY not in str(refused.value)
    assert refused.value.__cause__ is None
    shown = None if refused.value.__suppress_context__ else refused.value.__context__
    assert shown is None, "a traceback would show the error that holds the value"


@pytest.mark.engine
def test_blocks_are_made_once_changed_when_they_differ_and_never_shown(
    prefect_api: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from prefect.blocks.core import Block

    given = {
        "EVERGREEN_BLOCK_SECRET_H3": CANARY,
        "EVERGREEN_BLOCK_SLACK_H3": f"https://hooks.slack.com/services/T0/B0/{CANARY}",
        "EVERGREEN_BLOCK_S3_H3": "s3://bucket/some/prefix",
        "AWS_ACCESS_KEY_ID": "AKIA",
        "AWS_SECRET_ACCESS_KEY": CANARY,
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    listed = ["s3-bucket/h3", "secret/h3", "slack-webhook/h3"]
    assert main(["--dry-run"]) == 0
    assert sorted(capsys.readouterr().out.split()) == sorted(["+", "+", "+", *listed])
    with pytest.raises(ValueError, match="Unable to find block document"):
        Block.load("secret/h3")
    assert main([]) == 0
    assert sorted(capsys.readouterr().out.split()) == sorted(["+", "+", "+", *listed])
    assert Block.load("secret/h3").get() == CANARY
    assert Block.load("s3-bucket/h3").credentials.aws_secret_access_key.get_secret_value() == CANARY

    monkeypatch.setenv("EVERGREEN_BLOCK_SECRET_H3", "another")
    assert main([]) == 0
    said = capsys.readouterr()
    assert sorted(said.out.splitlines()) == ["= s3-bucket/h3", "= slack-webhook/h3", "~ secret/h3"]
    assert CANARY not in said.out + said.err
    assert Block.load("secret/h3").get() == "another"

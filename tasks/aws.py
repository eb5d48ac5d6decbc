"""Prefect blocks that hold credentials and secrets, loaded where they are used and kept in memory only.

Importing this module lets the process load the AwsCredentials block that `EVERGREEN_AWS` names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import SecretStr

from tasks.core.errors import SourceUnavailable, SpecError, WorkflowError
from tasks.core.placeholders import Kind
from tasks.store import s3
from tasks.store.s3 import S3Access

_PASSING = {"Throttling", "ThrottlingException", "InternalServiceError", "ServiceUnavailable"}


def access_of_block(name: str) -> S3Access:
    """Return what the AwsCredentials block of this name gives, a role it names assumed.

    A block that names no key, profile or role leaves the credentials to the usual chain, which renews them
    by itself, and says only region and address.

    Raises:
        SpecError: when there is no such block, or it gives no credentials.
        SourceUnavailable: when the Prefect API or AWS does not answer.
    """
    from prefect_aws import AwsCredentials

    with _told(f"aws-credentials/{name}"):
        block = _load(AwsCredentials, name)
        place = block.aws_client_parameters
        ca_file = place.verify_cert_path and str(place.verify_cert_path)
        region, endpoint = block.region_name, place.endpoint_url
        if not (block.aws_access_key_id or block.profile_name or block.assume_role_arn):
            return S3Access(region=region, endpoint=endpoint, ca_file=ca_file)
        session = block.get_boto3_session()
        found = session.get_credentials()
        if found is None:
            raise _no_use(f"aws-credentials/{name}", "no credentials", "a key, a profile or a role")
        frozen = found.get_frozen_credentials()
        return S3Access(
            key=frozen.access_key,
            secret=SecretStr(frozen.secret_key),
            token=SecretStr(frozen.token) if frozen.token else None,
            region=region or session.region_name,
            endpoint=endpoint,
            ca_file=ca_file,
        )


def secret_of_block(kind: Kind, name: str, field: str = "") -> str:
    """Return the secret that a Secret or AwsSecret block holds, or one field of it where it is JSON.

    Never log the result; whoever shows an error about it must leave the value out.

    Raises:
        SpecError: when there is no such block, secret or field, or no right to read it.
        SourceUnavailable: when the Prefect API or AWS does not answer.
    """
    shown = f"{kind}/{name}"
    with _told(shown):
        value = _read(kind, name)
        if isinstance(value, bytes):
            value = value.decode()
    if field:
        value = _field(value, field, shown)
    if isinstance(value, dict | list | bool) or value is None or value == "":
        raise _no_use(shown, "no single text", "one value, or #field after the name")
    return str(value)


def _read(kind: Kind, name: str) -> Any:  # Any: a Secret holds any JSON
    if kind == "secret":
        from prefect.blocks.system import Secret

        return _load(Secret, name).get()
    from prefect_aws.secrets_manager import AwsSecret

    return _load(AwsSecret, name).read_secret(_sync=True)


def _load(kind: Any, name: str) -> Any:  # Any: Prefect gives a block or a coroutine; here always the block
    return kind.load(name, _sync=True)


def _field(value: Any, field: str, shown: str) -> Any:  # Any: a Secret holds any JSON
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:  # its message would hold the secret
            value = None
    if not isinstance(value, dict) or field not in value:
        raise _no_use(shown, f"no field {field!r}", "a JSON object with that field")
    return value[field]


@contextmanager
def _told(shown: str) -> Iterator[None]:
    """Turn what Prefect and AWS raise in the block into our own errors, which never hold a value."""
    import httpx
    from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError
    from prefect.exceptions import PrefectHTTPStatusError

    try:
        yield
    except WorkflowError:
        raise
    except ValueError as err:  # Prefect's answer for a name that is not there, and a secret that is no text
        absent = "Unable to find block" in str(err)
        found = "none of that name" if absent else f"one that is unreadable ({type(err).__name__})"
        raise _no_use(shown, found, "a block that exists and loads") from None
    except (httpx.TransportError, PrefectHTTPStatusError, ConnectionError, HTTPClientError) as err:
        raise _away(shown, type(err).__name__) from None
    except ClientError as err:
        code = err.response["Error"]["Code"]
        if code in _PASSING:
            raise _away(shown, code) from None
        raise _no_use(shown, f"AWS that answered {code}", "a secret that its credentials may read") from None
    except BotoCoreError as err:
        raise _no_use(shown, type(err).__name__, "credentials that AWS accepts") from None


def _no_use(shown: str, found: str, expected: str) -> SpecError:
    return SpecError(f"for block {shown}: {found}", expected, "see deployments/blocks.py --help")


def _away(shown: str, why: str) -> SourceUnavailable:
    return SourceUnavailable(
        f"block {shown} out of reach: {why}", "a Prefect API and AWS that answer", "check both are up"
    )


s3.load_blocks_with(access_of_block)

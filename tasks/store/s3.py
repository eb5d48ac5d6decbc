"""Whose key opens S3 and where it is: settings turned into clients, in one place.

Credentials come from the usual AWS chain, or from the block that `EVERGREEN_AWS` names. The store knows
nothing of Prefect, so who can load blocks says so once with `load_blocks_with` (tasks.aws does when it is
imported). A credential stays in the memory of the process that uses it: never in the environment, where
every child would inherit it, and never on disk.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from tasks.core.errors import RegistryError, RegistryUnavailable, SpecError
from tasks.settings import Settings
from tasks.store.passing import is_not_there

if TYPE_CHECKING:
    import boto3
    from pyarrow.fs import S3FileSystem

KEEP_SECONDS = 600  # our choice: shorter than the 15 minutes that an assumed role lasts at least
_CONNECT_SECONDS, _READ_SECONDS, _ATTEMPTS = 3, 9, 2  # a call that hangs ends within 20 seconds


@dataclass(frozen=True)
class S3Access:
    """Credentials and place of S3; what is None is left to the usual AWS chain."""

    key: str | None = None
    secret: SecretStr | None = None
    token: SecretStr | None = None
    region: str | None = None
    endpoint: str | None = None
    ca_file: str | None = None
    """Certificates to trust instead of the system's, for a storage of one's own."""

    @property
    def plain(self) -> tuple[str | None, str | None, str | None]:
        """Key, secret and token as clients take them; never log them."""
        secret = self.secret.get_secret_value() if self.secret else None
        return self.key, secret, self.token.get_secret_value() if self.token else None


@dataclass
class _Blocks:
    load: Callable[[str], S3Access] | None = None
    known: dict[str, tuple[float, S3Access]] = field(default_factory=dict)
    lent: S3Access | None = None
    lock: Lock = field(default_factory=Lock)


_blocks = _Blocks()


def load_blocks_with(load: Callable[[str], S3Access]) -> None:
    """Let this process load AwsCredentials blocks by name; every process that uses blocks says so once."""
    _blocks.load = load


def access_of(settings: Settings) -> S3Access:
    """Return whose credentials this place uses for S3, read anew every ten minutes.

    Raises:
        SpecError: when the settings name a block and this process cannot load one, or there is none.
    """
    if settings.aws is None:
        return S3Access(
            region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
            endpoint=os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"),
        )
    if _blocks.load is None:
        raise SpecError(
            "EVERGREEN_AWS in a process that runs without Prefect",
            "credentials of the usual AWS chain there",
            "unset EVERGREEN_AWS for this process and give it a role or AWS_* variables",
        )
    with _blocks.lock:
        at, known = _blocks.known.get(settings.aws, (float("-inf"), S3Access()))
        if time.monotonic() - at > KEEP_SECONDS:
            known = _blocks.load(settings.aws)
            _blocks.known[settings.aws] = (time.monotonic(), known)
        return known


def filesystem(url: str, settings: Settings | None = None) -> tuple[S3FileSystem, str]:
    """Return the pyarrow filesystem that holds an `s3://` URL, and the path in it."""
    from pyarrow import fs

    path = url.removeprefix("s3://")
    access = access_of(settings or Settings())
    key, secret, token = access.plain
    region = access.region
    if access.endpoint is None and region is None:
        region = fs.resolve_s3_region(path.split("/", 1)[0])
    files = fs.S3FileSystem(
        access_key=key,
        secret_key=secret,
        session_token=token,
        region=region,
        endpoint_override=access.endpoint,
        tls_ca_file_path=access.ca_file,
        connect_timeout=_CONNECT_SECONDS,
        request_timeout=_READ_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
    )
    return files, path


def put_file(path: Path, url: str, settings: Settings, *, content_type: str = "") -> None:
    """Upload the file to an `s3://` URL, whole or not at all; what stands there is replaced.

    Raises:
        RegistryError: when S3 does not take it.
    """
    bucket, key = _split(url)
    with s3_errors("writing to"):
        extra = {"ContentType": content_type} if content_type else None
        _client(settings).upload_file(str(path), bucket, key, ExtraArgs=extra)


def size_of(url: str, settings: Settings) -> int | None:
    """Return the size in bytes of the object at an `s3://` URL, None when there is none.

    Asked by listing: asking for the object itself answers 403 instead of 404 to a role that may list only
    below its own prefix.

    Raises:
        RegistryError: when S3 does not answer.
    """
    bucket, key = _split(url)
    with s3_errors("reading"):
        found = _client(settings).list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
    return next((int(one["Size"]) for one in found.get("Contents", ()) if one["Key"] == key), None)


def lend_to_mlflow(settings: Settings) -> None:
    """Let MLflow, which knows only boto3's own session, use the block's credentials for its artifacts.

    Does nothing without `EVERGREEN_AWS`, and in a process without Prefect: the usual chain applies there.
    Certificates of one's own MLflow takes only from AWS_CA_BUNDLE.
    """
    if settings.aws is None or _blocks.load is None:
        return
    access = access_of(settings)
    if access == _blocks.lent:
        return
    import boto3

    key, secret, token = access.plain
    boto3.setup_default_session(
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        aws_session_token=token,
        region_name=access.region,
    )
    if access.endpoint:
        os.environ["MLFLOW_S3_ENDPOINT_URL"] = access.endpoint
    _blocks.lent = access


@contextmanager
def s3_errors(doing: str) -> Iterator[None]:
    """Turn what boto3 raises in the block into a RegistryError that names S3's own code for it."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (Boto3Error, BotoCoreError, ClientError) as err:
        cause = err.__context__ if isinstance(err, Boto3Error) and err.__context__ else err
        code = cause.response["Error"]["Code"] if isinstance(cause, ClientError) else type(cause).__name__
        error = RegistryError if is_not_there(cause) else RegistryUnavailable
        raise error(
            f"{doing} S3 that failed ({code})",
            "a bucket that answers, and the right to use it",
            "check EVERGREEN_ARTIFACTS, EVERGREEN_AWS and the role's policy",
        ) from err


def _client(settings: Settings) -> Any:  # Any: boto3 makes its clients' classes at run time
    from botocore.config import Config

    access = access_of(settings)
    return _session(access).client(
        "s3",
        endpoint_url=access.endpoint,
        verify=access.ca_file,
        config=Config(
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        ),
    )


def _session(access: S3Access) -> boto3.session.Session:
    import boto3

    key, secret, token = access.plain
    return boto3.session.Session(
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        aws_session_token=token,
        region_name=access.region,
    )


def _split(url: str) -> tuple[str, str]:
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return bucket, key

"""Credentials and secrets come from blocks, are used where they are needed, and are shown nowhere."""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import botocore.client
import pandas as pd
import pytest
import sqlalchemy as sa
from moto.moto_server.werkzeug_app import DomainDispatcherApplication
from prefect.blocks.system import Secret
from prefect_aws import AwsCredentials
from prefect_aws.client_parameters import AwsClientParameters
from prefect_aws.secrets_manager import AwsSecret
from pydantic import SecretStr

from tasks import aws
from tasks.core.dataset import Dataset
from tasks.core.errors import RegistryError, SourceUnavailable, SpecError
from tasks.core.model.bundle import digest_of
from tasks.core.window import Window
from tasks.fetch import fetch_training
from tasks.settings import Settings
from tasks.store import s3
from tasks.store.mlflow_client import experiment_id, open_client
from tasks.store.reports import keep_report
from tasks.store.s3 import S3Access
from tasks.store.snapshots import keep_snapshot
from tests.make import START, make_frame, make_spec, spec_block
from tests.repo.arrows import imports, sources

pytestmark = pytest.mark.engine
AS_OF = START + timedelta(days=30)
KEY = "AKIAFROMTHEBLOCK0000"
SECRET = "canary/of+the=block"  # noqa: S105
_CREDENTIAL = re.compile(r"Credential=([^/]+)/")


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let no test see what another loaded, and put MLflow's own session back."""
    monkeypatch.setattr(s3, "_blocks", s3._Blocks(load=aws.access_of_block))
    monkeypatch.delenv("MLFLOW_S3_ENDPOINT_URL", raising=False)
    yield
    boto3.DEFAULT_SESSION = None
    os.environ.pop("MLFLOW_S3_ENDPOINT_URL", None)


@pytest.fixture
def keys_used(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The access key of every request that AWS's side of the wire has seen."""
    seen: list[str] = []
    answer = DomainDispatcherApplication.__call__

    def recorded(self: Any, environ: dict[str, Any], start: Any) -> Any:
        seen.extend(_CREDENTIAL.findall(environ.get("HTTP_AUTHORIZATION", "")))
        return answer(self, environ, start)

    monkeypatch.setattr(DomainDispatcherApplication, "__call__", recorded)
    return seen


@pytest.fixture
def block(prefect_api: None, s3_endpoint: str, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of an AwsCredentials block; the environment's own credentials and address are gone."""
    name = f"aws-{uuid.uuid4().hex[:8]}"
    credentials_block(s3_endpoint).save(name)
    for variable in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.delenv(variable)
    return name


def credentials_block(endpoint: str, **over: Any) -> AwsCredentials:
    return AwsCredentials(
        **{
            "aws_access_key_id": KEY,
            "aws_secret_access_key": SecretStr(SECRET),
            "region_name": "us-east-1",
            "aws_client_parameters": AwsClientParameters(endpoint_url=endpoint),
            **over,
        }
    )


@pytest.fixture
def remote(settings: Settings, block: str, s3_bucket: str, keys_used: list[str]) -> Settings:
    return settings.model_copy(update={"aws": block, "artifacts": f"s3://{s3_bucket}/models"})


def rows_in(folder: Path, count: int = 200) -> Dataset:
    path = folder / "rows.parquet"
    make_frame(count).to_parquet(path)
    return Dataset(str(path), count, digest_of(path.read_bytes()), Window.ending(START, "28d"), ("a",), ())


def object_at(url: str, settings: Settings) -> bytes:
    files, path = s3.filesystem(url, settings)
    with files.open_input_stream(path) as stored:
        return stored.read()


# S3 through a block.


def test_a_snapshot_is_kept_with_the_key_of_the_block(
    remote: Settings, tmp_path: Path, keys_used: list[str]
) -> None:
    rows = rows_in(tmp_path)
    kept = keep_snapshot(rows, settings=remote)
    assert kept.path == f"{remote.artifact_root}/snapshots/{rows.sha256}.parquet"
    assert object_at(kept.path, remote) == Path(rows.path).read_bytes()
    assert keep_snapshot(rows, settings=remote) == kept
    assert set(keys_used) == {KEY}


def test_a_source_on_s3_is_read_with_the_key_of_the_block(
    remote: Settings, tmp_path: Path, keys_used: list[str]
) -> None:
    rows = rows_in(tmp_path, 300)
    s3.put_file(Path(rows.path), f"{remote.artifact_root}/in/rows.parquet", remote)
    keys_used.clear()
    source = {"url": f"{remote.artifact_root}/in/*.parquet", "key": "event_id", "timestamp": "event_time"}
    fetched = fetch_training.fn(make_spec(source=source), AS_OF, settings=remote)
    assert fetched.dataset.rows == 300
    assert set(keys_used) == {KEY}


def test_mlflow_keeps_its_artifacts_with_the_key_of_the_block_and_none_in_the_environment(
    remote: Settings, tmp_path: Path, keys_used: list[str]
) -> None:
    (tmp_path / "note.txt").write_text("kept")
    client = open_client(remote)
    run = client.create_run(experiment_id(client, "churn", remote))
    assert run.info.artifact_uri.startswith(remote.artifact_root)
    client.log_artifact(run.info.run_id, str(tmp_path / "note.txt"))
    back = client.download_artifacts(run.info.run_id, "note.txt", str(tmp_path / "back"))
    assert Path(back).read_text() == "kept"
    assert set(keys_used) == {KEY}
    assert not any(SECRET in value for value in os.environ.values())


def test_without_a_block_the_usual_chain_is_used(
    settings: Settings, s3_bucket: str, tmp_path: Path, keys_used: list[str]
) -> None:
    remote = settings.model_copy(update={"artifacts": f"s3://{s3_bucket}/models"})
    kept = keep_snapshot(rows_in(tmp_path), settings=remote)
    assert object_at(kept.path, remote)
    assert set(keys_used) == {"testing"}


def test_an_upload_in_parts_that_breaks_off_leaves_neither_an_object_nor_parts(
    remote: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.bin"
    path.write_bytes(os.urandom(17 << 20))  # three parts of boto3's eight megabytes
    call = botocore.client.BaseClient._make_api_call

    def second_part_fails(self: Any, operation: str, parameters: dict[str, Any]) -> Any:
        if operation == "UploadPart" and parameters["PartNumber"] == 2:
            raise botocore.exceptions.ClientError({"Error": {"Code": "SlowDown"}}, operation)
        return call(self, operation, parameters)

    url = f"{remote.artifact_root}/large.bin"
    with monkeypatch.context() as patch:
        patch.setattr(botocore.client.BaseClient, "_make_api_call", second_part_fails)
        with pytest.raises(RegistryError, match=r"writing to S3 that failed \(SlowDown\)"):
            s3.put_file(path, url, remote)
    assert s3.size_of(url, remote) is None
    pending = s3._client(remote).list_multipart_uploads(Bucket=url.split("/")[2])
    assert pending.get("Uploads", []) == []
    s3.put_file(path, url, remote)
    assert s3.size_of(url, remote) == 17 << 20


def test_a_role_is_assumed_and_its_passing_key_used(
    remote: Settings, s3_endpoint: str, tmp_path: Path, keys_used: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", s3_endpoint)
    role = "arn:aws:iam::123456789012:role/evergreen-artifacts"
    credentials_block(s3_endpoint, assume_role_arn=role).save("with-role", overwrite=True)
    access = s3.access_of(remote.model_copy(update={"aws": "with-role"}))
    assert access.token is not None
    assert access.key not in (None, KEY)
    kept = keep_snapshot(rows_in(tmp_path), settings=remote.model_copy(update={"aws": "with-role"}))
    assert kept.path.startswith("s3://")
    assert set(keys_used) == {KEY, access.key}, "the block's own key only assumes the role"


def test_a_block_without_a_key_leaves_the_chain_to_renew_credentials_itself(
    prefect_api: None, s3_endpoint: str
) -> None:
    block = AwsCredentials(
        region_name="eu-north-1", aws_client_parameters=AwsClientParameters(endpoint_url=s3_endpoint)
    )
    block.save("place-only", overwrite=True)
    access = aws.access_of_block("place-only")
    assert access == S3Access(region="eu-north-1", endpoint=s3_endpoint)


def test_a_block_is_loaded_once_in_ten_minutes_and_then_anew(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, loaded = [1000.0], []

    def load(name: str) -> S3Access:
        loaded.append(name)
        return S3Access(key=f"key{len(loaded)}")

    monkeypatch.setattr(s3.time, "monotonic", lambda: now[0])
    s3.load_blocks_with(load)
    place = settings.model_copy(update={"aws": "ml"})
    assert [s3.access_of(place).key, s3.access_of(place).key] == ["key1", "key1"]
    now[0] += s3.KEEP_SECONDS + 1
    assert s3.access_of(place).key == "key2"


def test_a_block_that_is_not_there_is_named_and_the_chain_is_not_tried_instead(
    settings: Settings, prefect_api: None, s3_bucket: str, tmp_path: Path, keys_used: list[str]
) -> None:
    place = settings.model_copy(update={"aws": "no-such", "artifacts": f"s3://{s3_bucket}/models"})
    with pytest.raises(SpecError, match="aws-credentials/no-such: none of that name"):
        keep_snapshot(rows_in(tmp_path), settings=place)
    assert keys_used == []


def test_a_process_that_cannot_load_blocks_says_so_instead_of_using_other_credentials(
    settings: Settings, s3_bucket: str, tmp_path: Path, keys_used: list[str]
) -> None:
    s3._blocks.load = None
    place = settings.model_copy(update={"aws": "ml", "artifacts": f"s3://{s3_bucket}/models"})
    with pytest.raises(SpecError, match="EVERGREEN_AWS in a process that runs without Prefect"):
        keep_snapshot(rows_in(tmp_path), settings=place)
    assert keys_used == []


def test_an_absent_bucket_is_a_registry_error_with_its_code(remote: Settings, tmp_path: Path) -> None:
    place = remote.model_copy(update={"artifacts": "s3://no-such-bucket-here/models"})
    with pytest.raises(RegistryError, match="NoSuchBucket") as caught:
        keep_snapshot(rows_in(tmp_path), settings=place)
    assert SECRET not in str(caught.value)


def test_every_flow_that_reaches_the_registry_can_load_blocks() -> None:
    ours = sources(Path(__file__).parents[2], ("flows", "tasks"))

    def reached(module: str, seen: set[str]) -> set[str]:
        for one in imports(module, ours[module], ours):
            if one.name in ours and one.name not in seen:
                seen.add(one.name)
                reached(one.name, seen)
        return seen

    users = {name: reached(name, set()) for name in ours if name.startswith("flows.")}
    needy = {name for name, seen in users.items() if "tasks.store.s3" in seen}
    assert {"flows.retrain", "flows.score"} <= needy
    assert [name for name in sorted(needy) if "tasks.aws" not in users[name]] == []


# Reports.


def test_a_report_is_kept_below_the_artifact_root_and_opens_in_a_browser(
    remote: Settings, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    page.write_text("<p>first")
    url = keep_report(page, "churn", settings=remote)
    assert url == f"{remote.artifact_root}/reports/churn/report.html"
    page.write_text("<p>second")
    assert keep_report(page, "churn", settings=remote) == url
    assert object_at(url, remote) == b"<p>second"
    bucket, _, key = url.removeprefix("s3://").partition("/")
    head = s3._client(remote).head_object(Bucket=bucket, Key=key)
    assert head["ContentType"] == "text/html; charset=utf-8"


def test_a_report_is_kept_in_a_folder_whole_and_never_elsewhere(settings: Settings, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text("<p>")
    kept = Path(keep_report(page, "churn", name="2026-01-05/report.html", settings=settings))
    assert kept == Path(settings.artifact_root) / "reports/churn/2026-01-05/report.html"
    assert [each.name for each in kept.parent.iterdir()] == ["report.html"]
    for name in ("../other/report.html", str(tmp_path / "report.html")):
        with pytest.raises(RegistryError, match="below the model's folder"):
            keep_report(page, "churn", name=name, settings=settings)
    with pytest.raises(RegistryError, match="FileNotFoundError"):
        keep_report(tmp_path / "none.html", "churn", settings=settings)


# Secrets.


@pytest.fixture
def in_manager(block: str, s3_endpoint: str) -> str:
    """Name of an AwsSecret block whose secret is JSON, as RDS keeps its own."""
    name = f"crm-{uuid.uuid4().hex[:8]}"
    login = json.dumps({"username": "reader", "password": "p@ss/w%rd:1", "port": 5432})
    session = boto3.session.Session(KEY, SECRET, region_name="us-east-1")
    session.client("secretsmanager", endpoint_url=s3_endpoint).create_secret(Name=name, SecretString=login)
    AwsSecret(aws_credentials=AwsCredentials.load(block, _sync=True), secret_name=name).save(name)
    return name


def test_a_field_of_a_secret_in_aws_is_read(in_manager: str) -> None:
    assert aws.secret_of_block("aws-secret", in_manager, "password") == "p@ss/w%rd:1"
    assert aws.secret_of_block("aws-secret", in_manager, "port") == "5432"
    assert json.loads(aws.secret_of_block("aws-secret", in_manager))["username"] == "reader"


@pytest.mark.parametrize(
    ("value", "field", "said"),
    [
        ("canary-text", "password", "no field 'password'"),
        ({"user": "canary-text"}, "password", "no field 'password'"),
        ({"user": "canary-text"}, "", "no single text"),
        ({"user": {"deep": "canary-text"}}, "user", "no single text"),
        ("", "", "no single text"),
    ],
)
def test_a_secret_that_does_not_fit_is_told_without_its_value(
    value: Any, field: str, said: str, prefect_api: None
) -> None:
    Secret(value=value).save("misfit", overwrite=True)
    with pytest.raises(SpecError, match=f"block secret/misfit: {said}") as caught:
        aws.secret_of_block("secret", "misfit", field)
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_secret_that_is_not_there_is_no_reason_to_retry_and_an_absent_aws_is(
    in_manager: str, block: str, prefect_api: None
) -> None:
    with pytest.raises(SpecError, match="secret/no-such: none of that name"):
        aws.secret_of_block("secret", "no-such")
    credentials = AwsCredentials.load(block, _sync=True)
    AwsSecret(**{"aws_credentials": credentials, "secret_name": "gone"}).save("gone", overwrite=True)
    with pytest.raises(SpecError, match="AWS that answered ResourceNotFoundException"):
        aws.secret_of_block("aws-secret", "gone")
    away = credentials_block("http://127.0.0.1:9")
    away.aws_client_parameters.config = {"retries": {"total_max_attempts": 1}}
    AwsSecret(**{"aws_credentials": away, "secret_name": "away"}).save("away", overwrite=True)
    with pytest.raises(SourceUnavailable, match="aws-secret/away out of reach"):
        aws.secret_of_block("aws-secret", "away")


def test_rows_are_read_from_a_database_whose_password_is_a_block(
    in_manager: str, postgres_url: str, settings: Settings
) -> None:
    owner = sa.create_engine(postgres_url, poolclass=sa.pool.NullPool)
    make_frame(50).to_sql("customer_events", owner, index=False)
    url = sa.make_url(postgres_url)
    role = f"reader_{uuid.uuid4().hex[:8]}"
    with owner.begin() as connection:
        connection.execute(sa.text(f"CREATE ROLE {role} LOGIN PASSWORD 'p@ss/w%rd:1'"))
        connection.execute(sa.text(f"GRANT SELECT ON customer_events TO {role}"))
    template = f"postgresql+psycopg://{role}:${{block:aws-secret/{in_manager}#password}}@/{url.database}"
    spec = make_spec(source={**spec_block()["source"], "url": f"{template}?host={url.query['host']}"})
    try:
        assert fetch_training.fn(spec, AS_OF, settings=settings).dataset.rows == 50
    finally:
        with owner.begin() as connection:
            connection.execute(sa.text(f"DROP OWNED BY {role}; DROP ROLE {role}"))


def test_a_query_takes_a_secret_as_a_bound_parameter(
    prefect_api: None, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    Secret(value="team").save("plan", overwrite=True)
    monkeypatch.setenv("LEAST_SPEND", "0")
    frame = make_frame(100)
    url = f"sqlite:///{tmp_path / 'a.db'}"
    frame.to_sql("customer_events", sa.create_engine(url, poolclass=sa.pool.NullPool), index=False)
    query = "SELECT * FROM customer_events WHERE plan = :plan AND spend >= :least"
    source = {**spec_block()["source"], "url": url, "table": None, "query": query, "timezone": "UTC"}
    source["parameters"] = {"plan": "${block:secret/plan}", "least": "${LEAST_SPEND}"}
    fetched = fetch_training.fn(make_spec(source=source), AS_OF, settings=settings)
    assert set(pd.read_parquet(fetched.dataset.path)["plan"]) == {"team"}

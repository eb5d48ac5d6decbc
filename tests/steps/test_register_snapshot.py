"""Snapshots are kept once, under their digest, and never change; provenance says what it does not know."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import botocore.client
import botocore.exceptions
import pandas as pd
import pytest

from tasks.core.dataset import Dataset
from tasks.core.errors import RegistryError
from tasks.core.model.bundle import digest_of
from tasks.core.window import Window
from tasks.register import save_snapshot
from tasks.settings import Settings
from tasks.store import provenance, s3
from tasks.store.provenance import code_state, pinned_requirements
from tests.make import START, make_frame, make_spec

SPEC_ = make_spec()


@pytest.fixture
def rows(tmp_path: Path) -> Dataset:
    path = tmp_path / "rows.parquet"
    make_frame(200).to_parquet(path)
    return Dataset(str(path), 200, digest_of(path.read_bytes()), Window.ending(START, "28d"), ("a",), ("b",))


def test_a_snapshot_is_the_same_rows_under_their_digest_and_read_only(
    rows: Dataset, settings: Settings
) -> None:
    kept = save_snapshot.fn(rows, SPEC_, settings=settings)
    assert kept.path == f"{settings.artifact_root}/snapshots/{rows.sha256}.parquet"
    assert (kept.rows, kept.sha256, kept.window, kept.missing) == (200, rows.sha256, rows.window, ("b",))
    assert digest_of(Path(kept.path).read_bytes()) == rows.sha256
    assert stat.S_IMODE(Path(kept.path).stat().st_mode) == 0o440
    pd.testing.assert_frame_equal(pd.read_parquet(kept.path), make_frame(200))


def test_keeping_twice_is_harmless_and_leaves_one_file(rows: Dataset, settings: Settings) -> None:
    first = save_snapshot.fn(rows, SPEC_, settings=settings)
    written = Path(first.path).stat().st_mtime_ns
    assert save_snapshot.fn(rows, SPEC_, settings=settings) == first
    assert save_snapshot.fn(first, SPEC_, settings=settings) == first
    assert [path.name for path in Path(first.path).parent.iterdir()] == [f"{rows.sha256}.parquet"]
    assert Path(first.path).stat().st_mtime_ns == written


def test_rows_that_changed_since_they_were_counted_are_refused(rows: Dataset, settings: Settings) -> None:
    with Path(rows.path).open("ab") as handle:
        handle.write(b"x")
    with pytest.raises(RegistryError, match="the rows to keep with digest"):
        save_snapshot.fn(rows, SPEC_, settings=settings)
    assert not (Path(settings.artifact_root) / "snapshots").exists()


def test_a_snapshot_changed_in_place_is_noticed_and_not_overwritten(
    rows: Dataset, settings: Settings
) -> None:
    kept = Path(save_snapshot.fn(rows, SPEC_, settings=settings).path)
    kept.chmod(0o644)
    kept.write_bytes(b"other")
    with pytest.raises(RegistryError, match="the snapshot kept before"):
        save_snapshot.fn(rows, SPEC_, settings=settings)
    assert kept.read_bytes() == b"other"


def test_missing_rows_and_an_unwritable_place_are_registry_errors(rows: Dataset, settings: Settings) -> None:
    (Path(settings.artifact_root) / "snapshots").write_text("a file where a folder should be")
    with pytest.raises(RegistryError, match="writable artifact root"):
        save_snapshot.fn(rows, SPEC_, settings=settings)
    Path(rows.path).unlink()
    with pytest.raises(RegistryError):
        save_snapshot.fn(rows, SPEC_, settings=settings)


def test_a_snapshot_on_s3_is_kept_once_and_checked(rows: Dataset, settings: Settings, s3_bucket: str) -> None:
    remote = settings.model_copy(update={"artifacts": f"s3://{s3_bucket}/models"})
    kept = save_snapshot.fn(rows, SPEC_, settings=remote)
    assert kept.path == f"s3://{s3_bucket}/models/snapshots/{rows.sha256}.parquet"
    assert save_snapshot.fn(rows, SPEC_, settings=remote) == kept
    files, path = s3.filesystem(kept.path, remote)
    with files.open_input_stream(path) as stored:
        assert digest_of(stored.read()) == rows.sha256
    with files.open_output_stream(path) as sink:
        sink.write(b"other")
    with pytest.raises(RegistryError, match="the snapshot kept before"):
        save_snapshot.fn(rows, SPEC_, settings=remote)


def test_an_interrupted_upload_leaves_nothing_and_the_next_one_succeeds(
    rows: Dataset, settings: Settings, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = settings.model_copy(update={"artifacts": f"s3://{s3_bucket}/models"})
    call = botocore.client.BaseClient._make_api_call

    def lost(self: Any, operation: str, parameters: dict[str, Any]) -> Any:
        if operation == "PutObject":
            parameters["Body"].read(100)
            raise botocore.exceptions.ConnectionClosedError(endpoint_url="s3")
        return call(self, operation, parameters)

    with monkeypatch.context() as patch:
        patch.setattr(botocore.client.BaseClient, "_make_api_call", lost)
        with pytest.raises(RegistryError, match="ConnectionClosedError"):
            save_snapshot.fn(rows, SPEC_, settings=remote)
    assert s3.size_of(f"{remote.artifact_root}/snapshots/{rows.sha256}.parquet", remote) is None
    assert save_snapshot.fn(rows, SPEC_, settings=remote).sha256 == rows.sha256


@contextmanager
def a_repository(tmp_path: Path) -> Iterator[Path]:
    def git(*words: str) -> None:
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True, capture_output=True)

    git("init", "-q")
    (tmp_path / "requirements.lock").write_text("scipy==9.9.9 \\\n    --hash=sha256:ab\nskops==8.8.8\n")
    git("add", ".")
    git("-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "x")
    yield tmp_path


def test_code_is_clean_dirty_or_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVERGREEN_GIT_COMMIT", raising=False)
    with a_repository(tmp_path) as folder:
        monkeypatch.setattr(provenance, "PROJECT", folder)
        monkeypatch.setattr(provenance, "LOCK", folder / "requirements.lock")
        head = (folder / ".git" / "refs" / "heads").glob("*")
        clean = code_state()
        assert clean.commit == next(head).read_text().strip()
        assert clean.dirty is False
        assert clean.lock_sha256 == digest_of((folder / "requirements.lock").read_bytes())
        (folder / "requirements.lock").write_text("changed")
        assert code_state().dirty is True
    monkeypatch.setattr(provenance, "PROJECT", tmp_path / "none")
    monkeypatch.setattr(provenance, "LOCK", tmp_path / "none.lock")
    unknown = code_state()
    assert (unknown.commit, unknown.dirty, unknown.lock_sha256) == (None, None, None)
    monkeypatch.setenv("EVERGREEN_GIT_COMMIT", "f" * 40)
    assert (code_state().commit, code_state().dirty) == ("f" * 40, False)


def test_requirements_come_from_the_lock_and_else_from_what_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with a_repository(tmp_path) as folder:
        monkeypatch.setattr(provenance, "LOCK", folder / "requirements.lock")
        pinned_requirements.cache_clear()
        pins = dict(pin.split("==") for pin in pinned_requirements())
    pinned_requirements.cache_clear()
    assert (pins["scipy"], pins["skops"]) == ("9.9.9", "8.8.8")
    assert pins["scikit-learn"] == provenance.metadata.version("scikit-learn")

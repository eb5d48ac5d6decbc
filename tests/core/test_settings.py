"""All state lies below one folder, and scratch files do not pile up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tasks.settings import Settings


def test_the_defaults_keep_everything_below_the_state_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("EVERGREEN_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    place = Settings()
    root = tmp_path / ".evergreen"
    assert place.root == root
    assert place.store_url == f"sqlite:///{root}/store.db"
    assert place.mlflow_uri == f"sqlite:///{root}/mlflow.db"
    assert Path(place.artifact_root).is_relative_to(root)
    assert place.launch == "auto"


def test_only_scratch_files_left_for_a_week_are_swept(settings: Settings) -> None:
    old, new = settings.work_dir("a") / "old.parquet", settings.work_dir("b") / "new.parquet"
    kept = settings.root / "store.db"
    for path in (old, new, kept):
        path.write_text("x")
    now = new.stat().st_mtime
    os.utime(old, (now - 8 * 86_400,) * 2)
    os.utime(kept, (now - 80 * 86_400,) * 2)
    assert settings.sweep_work(now) == 1
    assert not old.exists()
    assert new.exists()
    assert kept.exists()


def test_the_masking_key_is_made_once_and_kept_private(settings: Settings) -> None:
    key = settings.masking_key()
    assert len(key) == 64
    assert Settings(state_dir=settings.state_dir).masking_key() == key
    assert (settings.root / "mask.key").stat().st_mode & 0o777 == 0o600
    assert Settings(state_dir=settings.state_dir, mask_key="given").masking_key() == b"given"


def test_secrets_do_not_show_in_the_settings(tmp_path: Path) -> None:
    place = Settings(state_dir=tmp_path, store="postgresql+psycopg://me:canary@db/x", mask_key="canary")
    assert "canary" not in repr(place)
    assert "canary" not in place.model_dump_json()

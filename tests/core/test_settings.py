"""All state lies below one folder, and scratch files do not pile up."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

import pytest

from tasks.core.errors import SpecError, StoreError
from tasks.settings import Settings, granted_cores


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


def cores() -> int:
    return len(os.sched_getaffinity(0))


def test_threads_are_the_cores_granted_and_never_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("EVERGREEN_THREADS", raising=False)
    assert Settings(state_dir=tmp_path).threads <= cores()
    assert Settings(state_dir=tmp_path, threads=1).threads == 1
    assert not caplog.records
    asked = cores() + 1000
    assert Settings(state_dir=tmp_path, threads=asked).threads == granted_cores()
    monkeypatch.setenv("EVERGREEN_THREADS", str(asked))
    assert Settings(state_dir=tmp_path).threads == granted_cores()
    assert [record.levelname for record in caplog.records] == ["WARNING"], "said once"
    assert str(asked) in caplog.text


def test_a_process_pinned_to_one_core_gets_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda who: {3})
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert granted_cores(tmp_path / "none", tmp_path) == 1


@pytest.mark.parametrize(
    ("line", "files", "granted"),
    [
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "250000 100000"}, 2),
        ("0::/a/b", {"a/b/cpu.max": "150000 100000", "a/cpu.max": "400000 100000"}, 1),
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("0::/", {"cpu.max": "max 100000"}, 8),
        ("0::/a", {}, 8),
        ("0::/", {"cpu.max": "nonsense"}, 8),
        (
            "4:cpu,cpuacct:/a",
            {"cpu,cpuacct/a/cpu.cfs_quota_us": "300000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"},
            3,
        ),
        (
            "4:cpu,cpuacct:/",
            {"cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            8,
        ),
        ("3:memory:/a", {"memory/a/cpu.max": "100000 100000"}, 8),
    ],
)
def test_a_quota_of_a_control_group_counts_as_whole_cores(
    line: str, files: dict[str, str], granted: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda who: set(range(8)))
    (tmp_path / "process").write_text(f"{line}\n")
    for name, text in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    assert granted_cores(tmp_path / "process", tmp_path / "groups") == granted


def test_a_wrong_setting_is_named_and_its_value_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_LAUNCH", "s3cret")
    with pytest.raises(SpecError) as caught:
        Settings()
    assert "EVERGREEN_LAUNCH" in str(caught.value) and "'inline'" in str(caught.value)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_a_state_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file/below"):
        _ = Settings(state_dir=tmp_path / "file" / "below").root

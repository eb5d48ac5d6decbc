"""Settings of this place: where state lives and which services are used (prefix `EVERGREEN_`)."""

from __future__ import annotations

import logging
import os
import secrets
from contextlib import suppress
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tasks.core.errors import SpecError, StoreError

_PROCESS, _CGROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def granted_cores(process: Path = _PROCESS, cgroups: Path = _CGROUPS) -> int:
    """Return how many cores this process may use, at least 1.

    The fewer of those its affinity allows and, on Linux, of the whole cores that a quota of its control
    groups comes to: a container limited to 1.5 cores gets 1. More threads than cores wait for each other,
    which makes a fit several times slower.

    Args:
        process: File that names the control groups of this process.
        cgroups: Where control groups are mounted.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min([cores, *_quotas(process, cgroups)]))


def _quotas(process: Path, cgroups: Path) -> list[int]:
    """Return the whole cores that each limited control group of the process may use."""
    try:
        lines = process.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    quotas = []
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = cgroups / controllers if controllers else cgroups
        folder = root / name.lstrip("/")
        for group in (folder, *folder.parents):
            quotas += _quota(group)
            if group == root:
                break
    return quotas


def _quota(group: Path) -> list[int]:
    """Return the quota of one control group, of version 2 or 1; nothing where it has none."""
    for files in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            words = " ".join((group / file).read_text(encoding="ascii") for file in files).split()
            quota, period = int(words[0]), int(words[1])
        except (OSError, ValueError, IndexError):  # no such file, or "max": no limit
            continue
        return [quota // period] if quota > 0 and period > 0 else []
    return []


@lru_cache(maxsize=8)
def _warn_of(threads: int, granted: int) -> None:
    """Say once that fewer threads are used than were asked for."""
    logging.getLogger(__name__).warning(
        "EVERGREEN_THREADS is %d and %d cores are granted: %d threads are used", threads, granted, granted
    )


def _wrong_setting(err: ValidationError) -> SpecError:
    first = err.errors(include_input=False, include_url=False)[0]
    name = f"EVERGREEN_{'_'.join(map(str, first['loc'])).upper()}"
    return SpecError(
        f"a wrong {name}", str(first["msg"]).removeprefix("Input should be "), "correct or unset it"
    )


class Settings(BaseSettings):
    """Everything about this place; read when it is made, never at import.

    The defaults keep all state below one folder, `.evergreen/` where the command is run.
    """

    model_config = SettingsConfigDict(env_prefix="EVERGREEN_", frozen=True)

    def __init__(self, **given: Any) -> None:  # Any: values of the fields below
        """Read the environment; `given` replaces it.

        Raises:
            SpecError: naming the setting that cannot be right; its value may be a secret and is not shown.
        """
        try:
            super().__init__(**given)
        except ValidationError as err:
            raise _wrong_setting(err) from None

    state_dir: Path = Field(Path(".evergreen"), description="Folder of all local state.")
    store: SecretStr | None = Field(
        None, description="SQLAlchemy URL of the store; default: SQLite in state_dir."
    )
    mlflow: SecretStr | None = Field(None, description="MLflow tracking URI; default: SQLite in state_dir.")
    artifacts: str | None = Field(None, description="Root of snapshots and reports: a folder or s3://.")
    launch: Literal["auto", "inline", "deployment", "event"] = Field(
        "auto",
        description="How a check starts a retraining: auto is by event in a deployment's run, else inline.",
    )
    probe: Literal["process", "here"] = Field(
        "process",
        description="Where a version is loaded before it may serve: in a clean process, or in this one.",
    )
    mask_key: SecretStr | None = Field(
        None,
        description="Key of the hashes that stand for sensitive values; default: one made per state_dir.",
    )
    code: str | None = Field(
        None,
        pattern=r"^\s*([A-Za-z_][\w.]*\s*(,\s*[A-Za-z_][\w.]*\s*)*)?$",
        description="The only packages, by commas, whose code a model block may name beside scikit-learn's; "
        "default: every module of your own.",
    )
    aws: str | None = Field(
        None, description="Name of the AwsCredentials block to use for s3://; default: the usual AWS chain."
    )
    deployer: str | None = Field(
        None, description="https:// address that is told, signed, of every promotion and rollback."
    )
    deployer_key: SecretStr | None = Field(None, description="Key of that signature (HMAC-SHA256).")
    log: Literal["durable", "fast"] = Field(
        "durable",
        description="Prediction log of the app: each answer is kept before it is given, or soon after.",
    )
    log_outage: Literal["refuse", "spool"] = Field(
        "refuse",
        description="While the store cannot be written: the app answers 503, or keeps answers in a file.",
    )
    heartbeat: SecretStr | None = Field(
        None, description="https:// address that every monitor run calls: whoever watches it sees silence."
    )
    threads: int = Field(
        default_factory=granted_cores,
        ge=1,
        description="Threads of a fit; default, and at most: the cores granted to this process.",
    )

    @field_validator("threads")
    @classmethod
    def _no_more_than_granted(cls, threads: int) -> int:
        granted = granted_cores()
        if threads > granted:
            _warn_of(threads, granted)
        return min(threads, granted)

    @cached_property
    def root(self) -> Path:
        """The state folder, absolute and existing."""
        root = self.state_dir.expanduser().resolve()
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as err:
            raise StoreError(
                f"the state folder {root} closed ({type(err).__name__})",
                "a folder that this user may make and write",
                "correct EVERGREEN_STATE_DIR, or the rights of its folder",
            ) from err
        return root

    @property
    def store_url(self) -> str:
        """URL of the store."""
        return self.store.get_secret_value() if self.store else f"sqlite:///{self.root / 'store.db'}"

    @property
    def mlflow_uri(self) -> str:
        """Tracking URI of MLflow, absolute."""
        return self.mlflow.get_secret_value() if self.mlflow else f"sqlite:///{self.root / 'mlflow.db'}"

    @property
    def artifact_root(self) -> str:
        """Folder or `s3://` prefix of snapshots and reports, absolute."""
        if self.artifacts and "://" in self.artifacts:
            return self.artifacts.rstrip("/")
        folder = Path(self.artifacts).resolve() if self.artifacts else self.root / "artifacts"
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder)

    def masking_key(self) -> bytes:
        """Return the key of the hashes that stand for sensitive values, made on first use."""
        if self.mask_key:
            return self.mask_key.get_secret_value().encode()
        path = self.root / "mask.key"
        if not path.exists():  # of several processes one makes it, and it appears whole
            made = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
            made.touch(mode=0o600)
            made.write_text(secrets.token_hex(32), encoding="ascii")
            with suppress(FileExistsError):
                os.link(made, path)
            made.unlink()
        return path.read_text(encoding="ascii").strip().encode()

    def sweep_work(self, now: float, *, keep_days: float = 7) -> int:
        """Remove scratch files left for `keep_days`; return how many. `now` is in Unix seconds."""
        old = [
            path
            for path in (self.root / "work").rglob("*")
            if path.is_file() and now - path.stat().st_mtime > keep_days * 86_400
        ]
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)

    def work_dir(self, attempt: str) -> Path:
        """Scratch folder of one attempt, created."""
        folder = self.root / "work" / attempt
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def result_folder(model: str, what: str, out: str = "", settings: Settings | None = None) -> Path:
    """Return the folder a command writes its pages to: `out`, or `<what>/<model>` below the state folder."""
    folder = Path(out).expanduser().resolve() if out else (settings or Settings()).root / what / model
    folder.mkdir(parents=True, exist_ok=True)
    return folder
